import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import skdejavid
from skdejavid.video.listing import find_videos, read_folder, read_labels, read_table


@pytest.fixture
def folder(tmp_path):
    """Two folders with videos at different depths, and another file."""
    for name in ("b/2.MP4", "a/1.avi", "a/deep/0.mkv", "a/notes.txt"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "videos"


def test_folders_are_labels(folder):
    listing = read_folder(folder)
    assert listing.ids == ["a/1.avi", "a/deep/0.mkv", "b/2.MP4"]
    assert listing.paths == [str(folder / id) for id in listing.ids] == find_videos(folder)
    assert listing.labels == ["a", "a", "b"]
    assert find_videos(os.fsencode(folder)) == listing.paths
    assert find_videos(os.fsencode(folder / "a" / "1.avi")) == listing.paths[:1]


def test_without_folders_there_are_no_labels(folder):
    (folder / "loose.mp4").touch()
    assert read_folder(folder).labels is None


def test_a_file_is_a_video_whatever_its_name(folder):
    assert find_videos(folder / "a" / "notes.txt") == [str(folder / "a" / "notes.txt")]


def test_a_folder_without_videos_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no video in"):
        find_videos(tmp_path)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.csv"
    rows = ["path,label,split", "b/2.MP4,two,test", './a/1.avi,"one, or more",train']
    path.write_text("\n".join(rows), encoding="utf-8-sig")  # as spreadsheets write it
    return path


def test_a_table_gives_paths_and_labels_in_its_order(folder, table):
    assert read_labels(table) == {"b/2.MP4": "two", "a/1.avi": "one, or more"}
    assert read_labels(table, [("split", "train")]) == {"a/1.avi": "one, or more"}
    listing = read_table(folder, table)
    assert listing.ids == ["b/2.MP4", "a/1.avi"]
    assert listing.paths == [str(folder / "b" / "2.MP4"), str(folder / "a" / "1.avi")]
    assert listing.labels == ["two", "one, or more"]


def test_tables_that_do_not_say_it_are_refused(table):
    with pytest.raises(ValueError, match=r"no column 'part', only \['label', 'path', 'split'\]"):
        read_labels(table, [("part", "1")])
    with pytest.raises(ValueError, match="no row with split=val and label=two"):
        read_labels(table, [("split", "val"), ("label", "two")])
    table.write_text("path,label\na.mp4,x\na.mp4,x\n")
    assert read_labels(table) == {"a.mp4": "x"}
    table.write_text("path,label\na.mp4,x\n./a.mp4,y\n")
    with pytest.raises(ValueError, match=r"a\.mp4 has the labels 'x' \(line 2\) and 'y' \("):
        read_labels(table)
    table.write_text("path,label\n")
    with pytest.raises(ValueError, match=r"labels\.csv has no row$"):
        read_labels(table)
    table.write_text("")
    with pytest.raises(ValueError, match="no column 'path'"):
        read_labels(table)


@pytest.mark.fault(81)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\na.mp4,x\nb.mp4\n", r"line 3: 1 cell\(s\), expected 2, the columns path, "),
        (b"path,label\na.mp4,x,y\n", r"line 2: 3 cell\(s\), expected 2"),
        (b"path,label\na.mp4,one, or more\n", r"line 2: 3 cell.* must be in quotes"),
        (b'path,label\na.mp4,x\nb.mp4,"y\n', r"line 3: unexpected end of data"),
        (b'path,label\na.mp4,"x"y\n', r"line 2: ',' expected after '\"'"),
        (b"path,label\n\nb.mp4,a\0b\n", r"line 3: a NUL character in path or label"),
        (b"path,label\n\0.mp4,x\n", r"line 2: a NUL character in path or label"),
        (b"path,label\n,x\n", r"line 2: no path"),
        (b"path,label\n  ,x\n", r"line 2: no path"),
        (b"path,label\na.mp4,caf\xe9\n", r"line 2: not in UTF-8\. Save the table as 'CSV UTF-8'"),
        ("path,label\na.mp4,x\n".encode("utf-16"), r"line 1: not in UTF-8"),
        (b"path,label,label\na.mp4,x,y\n", r"has two columns 'label'"),
        (b"path,path,label\na.mp4,b.mp4,y\n", r"has two columns 'path'"),
        (b"path;label\na.mp4;x\n", r"has no column 'path', only \['path;label'\]"),
        (b"path,label\na.mp4," + b"x" * 2**18 + b"\n", r"line 2: field larger than field limit"),
        (b"a.mp4,x\n", r"has no column 'path', only \['a\.mp4', 'x'\]"),
        (b"\n\n", r"has no column 'path', only \[\]"),
        (b"path,label\na.mp4,x\n\na.mp4,y\n", r"a\.mp4 has the labels 'x' \(line 2\) and 'y' \(l"),
    ],
)
def test_errors_of_a_table_name_table_and_line(content, message, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_bytes(content)
    for read in (read_labels, lambda table: read_table(tmp_path, table)):
        with pytest.raises(ValueError, match=message) as caught:
            read(table)
        assert str(table) in str(caught.value)


@pytest.mark.fault(81)
def test_blank_rows_line_ends_and_quotes_are_as_spreadsheets_write_them(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_bytes(
        b'\xef\xbb\xbf"path","label",\r\n,,\r\n\r\na.mp4,"x\ny",\r\nb.mp4,"a ""b""",\r\n'
    )
    assert read_labels(table) == {"a.mp4": "x\ny", "b.mp4": 'a "b"'}


@pytest.mark.fault(81)
@given(st.binary(max_size=60) | st.text('path,label"\n\r\0;é', max_size=60).map(str.encode))
def test_any_table_is_read_or_refused_with_its_name(content):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "labels.csv"
        table.write_bytes(b"path,label\n" + content)
        try:
            labels, message = read_labels(table), str(table)
        except ValueError as error:
            labels, message = {}, str(error)
        assert str(table) in message
        assert all(path.strip() for path in labels)


@pytest.mark.fault(81)
@pytest.mark.parametrize(
    "path",
    ["../secret.mp4", "/etc/secret.mp4", "a/../../secret.mp4", "..", "//host/a.mp4", "./../x"],
)
def test_a_table_stays_inside_of_its_folder(path, folder, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\na/1.avi,x\n{path},y\n")
    with pytest.raises(ValueError, match=r"labels\.csv, line 3: the path .* leads out of .*videos"):
        read_table(folder, table)
    listing = read_table(folder, table, may_leave_folder=True)
    assert listing.labels == ["x", "y"]
    assert listing.paths[1] == str(folder / path)
    assert read_labels(table)[Path(path).as_posix()] == "y"  # names of sequences, not of files


@pytest.mark.fault(81)
@pytest.mark.parametrize("path", ["a/..b.mp4", "...mp4", "12:30.mp4", "http:/x.mp4", "~/x.mp4"])
def test_names_that_only_look_as_if_they_led_out_are_names(path, folder, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{path},x\n")
    assert read_table(folder, table).paths == [str(folder / path)]


@pytest.mark.fault(78)
def test_tables_and_inputs_that_are_no_regular_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    for name, kind in [("pipe", "a named pipe"), ("socket", "a socket"), ("/dev/zero", "a charac")]:
        for read in (read_labels, find_videos):
            with pytest.raises(ValueError, match=f"{name} is {kind}.*, expected a regular file"):
                read(tmp_path / name)
    server.close()
    with pytest.raises(ValueError, match="is a folder"):
        read_labels(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_videos(tmp_path / "nowhere")


@pytest.mark.fault(78)
def test_folders_named_as_videos_are_folders_and_broken_links_are_named(folder):
    (folder / "a" / "d.mp4").mkdir()
    (folder / "a" / "d.mp4" / "inside.mp4").touch()
    (folder / "b" / "broken.mp4").symlink_to("nowhere.mp4")
    (folder / "b" / "link.mp4").symlink_to("2.MP4")
    (folder / "b" / "folder.mp4").symlink_to(folder / "a")
    os.mkfifo(folder / "b" / "pipe.mp4")
    assert read_folder(folder).ids == [
        *("a/1.avi", "a/d.mp4/inside.mp4", "a/deep/0.mkv", "b/2.MP4", "b/broken.mp4"),
        *("b/link.mp4", "b/pipe.mp4"),
    ]


@pytest.mark.fault(107)
def test_the_function_that_lists_folders_is_public():
    assert skdejavid.find_videos is find_videos
    assert "find_videos" in skdejavid.__all__
