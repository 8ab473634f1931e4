import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import skdejavid
from skdejavid.video.listing import (
    find_videos,
    read_folder,
    read_labels,
    read_table,
    similar_labels,
)


def assert_refused(content, message, folder):
    """Both readers refuse a table with this content, and name it."""
    table = folder / "labels.csv"
    table.write_bytes(content)
    for read in (read_labels, lambda table: read_table(folder, table)):
        with pytest.raises(ValueError, match=message) as caught:
            read(table)
        assert str(table) in str(caught.value)


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


@pytest.mark.fault(81, 135)
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
    assert_refused(content, message, tmp_path)


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
    (folder / "b" / "folder.mp4").symlink_to(folder / "a")  # is listed by its own name
    os.mkfifo(folder / "b" / "pipe.mp4")
    assert read_folder(folder).ids == [
        *("a/1.avi", "a/d.mp4/inside.mp4", "a/deep/0.mkv", "b/2.MP4", "b/broken.mp4"),
        *("b/link.mp4", "b/pipe.mp4"),
    ]


@pytest.fixture
def tree(tmp_path):
    """A folder as users have them, with things that are no videos of theirs."""

    def make(*names):
        for name in names:
            path = tmp_path / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "videos"

    return make


@pytest.mark.fault(130)
def test_what_systems_and_programs_put_beside_videos_is_left_out(tree):
    hidden = [".ipynb_checkpoints/1.mp4", ".git/2.mp4", "drink/._1.mp4", "drink/.Trash/1.mp4"]
    hidden += ["__MACOSX/drink/1.mp4", "drink/@eaDir/1.mp4/a.mp4", "$RECYCLE.BIN/3.mp4"]
    folder = tree("drink/1.mp4", "eat/2.MOV", "eat/Thumbs.db", "eat/list.txt", *hidden)
    listing = read_folder(folder)
    assert listing.ids == ["drink/1.mp4", "eat/2.MOV"]
    assert listing.labels == ["drink", "eat"]
    assert find_videos(folder) == listing.paths
    assert listing.notes == ["skipped: 7 hidden file(s) and folder(s), 2 other file(s)"]


@pytest.mark.fault(130)
def test_a_folder_that_the_user_names_may_be_hidden(tree):
    folder = tree(".data/a/1.mp4") / ".data"
    assert read_folder(folder).ids == ["a/1.mp4"]
    assert find_videos(folder / "a") == [str(folder / "a" / "1.mp4")]


@pytest.mark.fault(130)
def test_linked_folders_are_classes(tree, tmp_path):
    folder = tree("eat/1.mp4", "../elsewhere/run/2.mp4", "../elsewhere/run/deep/3.mp4")
    (folder / "run").symlink_to(tmp_path / "elsewhere" / "run")
    listing = read_folder(folder)
    assert listing.ids == ["eat/1.mp4", "run/2.mp4", "run/deep/3.mp4"]
    assert listing.labels == ["eat", "run", "run"]
    assert listing.notes == []
    (folder.parent / "link").symlink_to(folder)
    assert read_folder(folder.parent / "link").ids == listing.ids


@pytest.mark.fault(130)
def test_a_folder_to_which_several_ways_lead_is_listed_once(tree, tmp_path):
    folder = tree("run/1.mp4", "../elsewhere/b/2.mp4")
    (folder / "again").symlink_to("run")  # comes first in the alphabet, and is a link
    (folder / "run" / "circle").symlink_to(folder)
    (folder / "up").symlink_to("..")
    (folder / "self").symlink_to("self")
    for name in ("x", "y"):
        (folder / name).symlink_to(tmp_path / "elsewhere")
    listing = read_folder(folder)
    assert listing.ids == ["run/1.mp4", "x/b/2.mp4"]
    lost, repeated = listing.notes
    assert lost == "skipped: 1 link(s) that lead to nothing: 'self'"
    assert repeated.startswith("skipped: 4 link(s) to folders that are listed by another name")


@pytest.mark.fault(130)
def test_links_that_lead_to_nothing_are_named(tree):
    folder = tree("eat/1.mp4")
    (folder / "run").symlink_to("/nowhere/run")  # a class on a disk that is not there
    assert "'run'" in read_folder(folder).notes[0]
    with pytest.warns(UserWarning, match=r"1 link\(s\) that lead to nothing: 'run'"):
        assert find_videos(folder) == [str(folder / "eat" / "1.mp4")]
    (folder / "eat" / "1.mp4").unlink()
    with pytest.raises(ValueError, match=r"no video in .* lead to nothing: 'run'"):
        find_videos(folder)


@pytest.mark.fault(130)
def test_a_folder_that_cannot_be_read_is_an_error(tree, monkeypatch):
    folder, scandir = tree("eat/1.mp4", "run/2.mp4"), os.scandir

    def refuse(path):
        if Path(os.fspath(path)).name == "run":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="run"):
        find_videos(folder)


@pytest.mark.fault(130)
def test_that_only_other_things_were_found_is_said(tree):
    folder = tree(".hidden/1.mp4", "notes.txt")
    with pytest.raises(ValueError, match=r"no video in .* 1 hidden file.* 1 other file"):
        find_videos(folder)


@pytest.mark.fault(130)
def test_a_video_beside_class_folders_is_named(tree):
    listing = read_folder(tree("eat/1.mp4", "run/2.mp4", "loose.mp4"))
    assert listing.labels is None
    assert "no labels, because 1 video(s) are in no subfolder" in listing.notes[0]
    assert "'loose.mp4'" in listing.notes[0]
    assert read_folder(tree("flat/1.mp4") / "flat").notes == []


@pytest.mark.fault(130)
def test_any_name_that_a_file_may_have_is_listed_in_one_order(tree):
    names = ["-o.mp4", "a b/1.mp4", "a/\n.mp4", "a/1.mp4", "a/caf\udce9.mp4", "Z/1.mp4"]
    folder = tree(*reversed(names))
    expected = sorted(names, key=lambda name: name.split("/"))
    assert read_folder(folder).ids == expected
    assert find_videos(folder) == [f"{folder}/{name}" for name in expected]
    assert all(os.path.exists(path) for path in find_videos(folder))


@pytest.mark.fault(130)
@given(st.lists(st.text("ab.", min_size=1, max_size=3), max_size=6))
def test_exactly_what_is_not_hidden_is_listed(names):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        expected = {"x.mp4"}
        Path(folder, "x.mp4").touch()
        for i, name in enumerate(names):
            if set(name) != {"."}:
                Path(folder, name).mkdir(exist_ok=True)
                Path(folder, name, f"{i}.mp4").touch()
                if not name.startswith("."):
                    expected.add(f"{name}/{i}.mp4")
        assert set(read_folder(Path(folder)).ids) == expected


@pytest.mark.fault(135)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\na.mp4,x\nb.mp4,\n", r"line 3: no label\. Remove the row, or choose other"),
        (b"path,label\na.mp4,  \n", r"line 2: no label"),
        (b"path,label\na.mp4,run\nb.mp4,run \n", r"line 3: the label 'run ' has white space"),
        (b"path,label\na.mp4, run\n", r"line 2: the label ' run' has white space"),
        (b"path,label\na.mp4,\xc2\xa0run\n", r"line 2: the label '.xa0run' has white space"),
        (b"path;label\na.mp4;x\n", r"Cells are separated by ';': save the table with commas"),
        (b"path\tlabel\na.mp4\tx\n", r"Cells are separated by '.t': save the table with commas"),
        (b"a.mp4,x\nb.mp4,y\n", r"The first line must contain the names of the columns"),
        (b"Path,Label\na.mp4,x\n", r"written in lower case, without spaces around them"),
        (b"path, label\na.mp4,x\n", r"written in lower case, without spaces around them"),
    ],
)
def test_tables_that_would_be_read_as_something_else_are_refused(content, message, tmp_path):
    assert_refused(content, message, tmp_path)


@pytest.mark.fault(135)
def test_rows_that_are_not_wanted_need_no_label(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,label,split\na.mp4,x,train\nb.mp4,,test\n")
    assert read_labels(table, [("split", "train")]) == {"a.mp4": "x"}
    with pytest.raises(ValueError, match=r"no column 'part', only .*'split'") as caught:
        read_labels(table, [("part", "1")])
    assert "first line" not in str(caught.value)


@pytest.mark.fault(135)
@pytest.mark.parametrize(
    ("labels", "is_told"),
    [
        (["run", "Run"], True),
        (["caf\u00e9", "cafe\u0301"], True),
        (["high jump", "high  jump"], True),
        (["1", "01", "1.0"], True),
        (["stra\u00dfe", "STRASSE"], True),
        (["run", "run", "walk", "1", "2", "nan", "inf"], False),
    ],
)
def test_labels_that_look_alike_stay_what_they_are_and_are_told(labels, is_told, tree, tmp_path):
    table = tmp_path / "labels.csv"
    rows = [f"{i}.mp4,{label}" for i, label in enumerate(labels)]
    table.write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    listing = read_table(tmp_path, table)
    assert listing.labels == labels
    assert len(listing.notes) == is_told
    assert all(f"are {len(labels)} classes" in note for note in listing.notes)
    folders = read_folder(tree(*(f"{label}/1.mp4" for label in labels)))
    assert sorted(folders.notes) == sorted(similar_labels(folders.labels))
    assert len(folders.notes) == is_told


@pytest.mark.fault(107)
def test_the_function_that_lists_folders_is_public():
    assert skdejavid.find_videos is find_videos
    assert "find_videos" in skdejavid.__all__
