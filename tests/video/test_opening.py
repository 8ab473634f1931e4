import os
import socket
import struct
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from videos import CODECS, count_frames, iterate_frames, numbered, numbers_of, write_numbered

from skdejavid import VideoDecodeError
from skdejavid.datasets import write_video
from skdejavid.video import opening
from skdejavid.video.decoding import read_clock
from skdejavid.video.opening import (
    RefusedVideoError,
    bytes_for,
    most_pixels,
    most_threads,
    open_video,
)
from skdejavid.video.prefetch import NotWantedError


@pytest.fixture
def video(tmp_path, monkeypatch):
    """A video of 5 frames in the current folder, "in.mp4"."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.mp4", numbered(5))
    return tmp_path / "in.mp4"


@pytest.fixture
def server(video):
    """The URL of a server on this machine that has the video, and the list of its requests."""
    content = video.read_bytes()
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/in.mp4", requests
        running.shutdown()
        thread.join()


@pytest.mark.fault(76)
@pytest.mark.parametrize(
    "path",
    [
        "{url}",
        "cache:{url}",
        "async:{url}",
        "file:in.mp4",
        "concat:in.mp4|in.mp4",
        "concatf:list",
        "subfile,,start,0,end,0,,:in.mp4",
        "data:video/mp4;base64,AAAA",
        "crypto:in.mp4",
        "pipe:0",
        "fd:0",
        "unix:in.mp4",
        "tcp://127.0.0.1:1",
        "rtmp://127.0.0.1:1/x",
        "lavfi:testsrc",
        "in%03d.mp4",
    ],
)
def test_a_path_is_the_path_of_a_file_and_no_protocol(path, server):
    url, requests = server
    with pytest.raises(FileNotFoundError):
        count_frames(path.format(url=url))
    assert requests == []


@pytest.mark.fault(76)
@pytest.mark.parametrize(
    "name", ["12:30:05.mp4", "file:a.mp4", "http:/127.0.0.1:1/a.mp4", "a%03d.mp4", "-.mp4", "|.mp4"]
)
def test_any_name_of_a_file_is_a_name(name, video):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    write_video(name, numbered(3))
    assert [numbers_of(frame) for frame in iterate_frames(name)] == [0, 1, 2]


TEXTS = {
    "a playlist (HLS)": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{file}\n#EXT-X-ENDLIST\n",
    "a list of files (concat)": "ffconcat version 1.0\nfile '{file}'\nfile '{file}'\n",
    "the description of a network session (SDP)": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
    "a manifest (XML)": (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        "<BaseURL>{file}</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
    ),
}
OTHER_TEXTS = {
    "asx": '<asx version="3.0"><entry><ref href="{file}"/></entry></asx>\n',
    "m3u": "#EXTINF:9,title\n{file}\n",
    "pls": "[playlist]\nFile1={file}\nNumberOfEntries=1\n",
    "reference": "[Reference]\nRef1={file}\n",
    "rtsp": "rtsptext{file}\n",
    "avisynth": 'FFmpegSource2("{file}")\n',
    "tedcaptions": '[{{"captions": [{{"startTime": 0, "duration": 9, "content": "{file}"}}]}}]\n',
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/'
    '2067-3/2016"><Id>{file}</Id></CompositionPlaylist>\n',
    "vobsub": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n{file}\n",
    "picture pattern": "in%03d.mp4\n",
    "path": "{file}\n",
}


@pytest.mark.fault(77)
@pytest.mark.parametrize("kind", [*TEXTS, *OTHER_TEXTS])
def test_a_file_that_leads_to_another_is_refused_and_opens_nothing(kind, video, server):
    url, requests = server
    text = (TEXTS | OTHER_TEXTS)[kind]
    for file in ("in.mp4", video, url):
        for suffix in ("mp4", "m3u8", "txt", "mpd", "sdp", "jpg", "avs"):
            path = video.with_name(f"leads.{suffix}")
            path.write_text(text.format(file=file))
            with pytest.raises(VideoDecodeError, match=rf"leads\.{suffix}"):
                count_frames(path)
    assert requests == []


@pytest.mark.fault(77)
@pytest.mark.parametrize("kind", TEXTS)
def test_the_message_says_what_leads_elsewhere(kind, video):
    path = video.with_name("leads.mp4")
    path.write_text(TEXTS[kind].format(file="in.mp4"))
    with pytest.raises(VideoDecodeError) as caught:
        count_frames(path)
    assert f"leads.mp4 is {kind}, expected a video in one file" in str(caught.value)


def refer_to(content, target):
    """Return an MP4 file whose frames are in another file, as QuickTime allows."""
    at = content.index(b"url \0\0\0\1") - 4
    name = target.encode()
    alias = bytearray(150)
    alias[4:6] = struct.pack(">H", 2)
    alias[8:10] = struct.pack(">H", 0)
    alias[10] = 1  # length and name of the volume
    alias[11:12] = b"v"
    alias[50] = len(name)
    alias[51 : 51 + len(name)] = name
    struct.pack_into(">hh", alias, 130, 1, 1)  # levels from and to
    alias += struct.pack(">hh", 2, len(name)) + name + b"\0" * (len(name) % 2)
    alias += struct.pack(">hh", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + bytes(alias)
    changed = bytearray(content[:at] + entry + content[at + 12 :])
    for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        place = changed.rindex(box, 0, at) - 4
        (size,) = struct.unpack_from(">I", changed, place)
        struct.pack_into(">I", changed, place, size + len(entry) - 12)
    return bytes(changed)


@pytest.mark.fault(77)
def test_a_track_in_another_file_is_not_opened(video, monkeypatch):
    """The same file with FFmpeg's option to follow such tracks shows that it does refer."""
    path = video.with_name("refers.mp4")
    path.write_bytes(refer_to(video.read_bytes(), "in.mp4"))
    with pytest.raises(VideoDecodeError, match=r"refers\.mp4: the video stream has no frames"):
        count_frames(path)
    monkeypatch.setitem(opening._OPTIONS, "enable_drefs", "1")
    with pytest.raises(VideoDecodeError, match=r"refers\.mp4 refers to another file, .*in\.mp4"):
        count_frames(path)


@pytest.mark.fault(77)
def test_no_format_that_leads_elsewhere_is_allowed():
    import av

    known = {part for name in av.formats_available for part in name.split(",")}
    assert set(opening._DEMUXERS) <= known
    dangerous = {
        *("hls", "applehttp", "dash", "concat", "ffconcat", "imf", "sdp", "rtsp", "rtp", "sap"),
        *("image2", "image2pipe", "lavfi", "vobsub", "webm_dash_manifest", "mlv", "tedcaptions"),
        *("avisynth", "vapoursynth", "fbdev", "x11grab", "video4linux2", "v4l2", "kmsgrab"),
        *("alsa", "oss", "rcwt", "data", "rawvideo", "smoothstreaming", "hds", "mpjpeg"),
    }
    assert not dangerous & set(opening._DEMUXERS)
    assert not any("pipe" in name and name != "yuv4mpegpipe" for name in opening._DEMUXERS)
    assert opening._OPTIONS["protocol_whitelist"] == ""


@pytest.mark.parametrize("kind", CODECS)
def test_the_formats_that_are_written_are_allowed(kind, tmp_path):
    path = write_numbered(tmp_path / "numbered", 3, kind)
    with open_video(path) as opened:
        assert opened.n_bytes == path.stat().st_size
        assert sum(packet.size > 0 for packet in opened.packets()) >= 3
        assert opened.container.format.name.split(",")[0] in opening._DEMUXERS


@pytest.mark.fault(78)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket.mp4"))
    for name, kind in [
        ("pipe.mp4", "a named pipe"),
        ("link.mp4", "a named pipe"),
        ("socket.mp4", "a socket"),
        ("/dev/zero", "a character device"),
    ]:
        with pytest.raises(RefusedVideoError, match=f"{name} is {kind}, expected a regular file"):
            count_frames(tmp_path / name)
    server.close()


@pytest.mark.fault(107)
def test_for_a_folder_the_message_says_how_its_videos_are_listed(tmp_path):
    with pytest.raises(RefusedVideoError, match=r"is a folder.*: skdejavid\.find_videos lists"):
        count_frames(tmp_path)


@pytest.mark.fault(78)
@pytest.mark.parametrize("name", ["a\0.mp4", "\ud800.mp4", "a" * 300, "/proc/self/mem", ""])
def test_odd_paths_are_errors_of_the_video(name, tmp_path):
    with pytest.raises((VideoDecodeError, RefusedVideoError, FileNotFoundError)):
        count_frames(name if name.startswith("/") or not name else str(tmp_path / name))


def test_a_file_that_may_not_be_read_is_an_error_of_the_video(video, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(opening, "open_regular_file", refuse)
    with pytest.raises(VideoDecodeError, match=r"in\.mp4: Permission denied"):
        count_frames(video)


@pytest.mark.fault(79)
def test_packets_that_overlap_are_no_more_than_the_file_times_a_number(video, monkeypatch):
    monkeypatch.setattr(opening, "_ALLOWANCE_OF_PACKETS", 0)
    assert count_frames(video) == 5
    monkeypatch.setattr(opening, "_ALLOWANCE_OF_PACKETS", -20 * video.stat().st_size)
    with pytest.raises(VideoDecodeError, match=r"in\.mp4: its packets have over 20 times the byte"):
        count_frames(video)


@pytest.mark.fault(79)
def test_what_a_file_may_cost_grows_with_its_size():
    assert bytes_for(0) == 200e6
    assert bytes_for(10**9) == 20.2e9
    assert 4096 * 2304 <= most_pixels(0, 3.0) < 4096 * 2304 * 1.01  # whatever the size of the file
    assert most_pixels(10**7, 3.0) == int(600e6 / 14 / 3)
    assert most_threads(0, 1e6) == 200 - 14 + 1
    assert most_threads(10**7, 10e6) == 40 - 14 + 1
    assert most_threads(0, 1e9) == 1
    assert most_threads(0, 0) > 1


def test_an_error_of_the_disk_is_an_error_of_the_video(video, monkeypatch):
    class Broken(opening._Nameless):
        def __init__(self, file):
            super().__init__(file)
            self.read = self.fail

        def fail(self, n_bytes):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(opening, "_Nameless", Broken)
    with pytest.raises(VideoDecodeError, match=r"in\.mp4: Input/output error"):
        count_frames(video)


def test_frames_are_those_of_the_file_given_by_its_name(tmp_path):
    import av

    path = write_numbered(tmp_path / "numbered", 30, "h264 with B-frames")
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    found = [numbers_of(frame) for frame in iterate_frames(path)]
    assert found == [numbers_of(frame) for frame in np.stack(expected)]


@pytest.mark.fault(92)
def test_a_file_whose_frames_nobody_wants_is_not_read_to_its_end(video, monkeypatch):
    def stop():
        raise NotWantedError

    monkeypatch.setattr(opening, "check_is_wanted", stop)
    for read in (count_frames, read_clock):
        with pytest.raises(NotWantedError):
            read(video)


@pytest.mark.fault(79)
def test_a_stream_that_begins_in_the_middle_of_a_file_does_no_harm(video):
    class Container:
        def __init__(self, container):
            self.format, self._container = container.format, container

        def demux(self, streams):
            yield from self._container.demux(streams)
            raise IndexError("list index out of range")

    with open_video(video) as opened:
        strange = replace(opened, container=Container(opened.container))
        assert [packet.size > 0 for packet in strange.packets()] == [True] * 5 + [False]
