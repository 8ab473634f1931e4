import pytest

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
    with pytest.raises(ValueError, match=r"a\.mp4 has the labels 'x' and 'y'"):
        read_labels(table)
    table.write_text("path,label\n")
    with pytest.raises(ValueError, match="no column 'path'"):
        read_labels(table)
