"""Names, texts and whole writes: nothing outside, nothing that hangs, one error that names the file."""

import os

import pytest

from segcli.core import files
from segcli.core.errors import DataError, SegcliError, UsageError
from segcli.core.yaml_file import parse_yaml


@pytest.mark.parametrize(
    "name", ["a.png", "sub/b.png", "한글 이름.png", "a..b.png", "..hidden", "a:b.png", "-x", "sub/./b.png"]
)
def test_ordinary_and_odd_names_stay_below_their_folder(tmp_path, name):
    assert files.resolve(tmp_path, name, "x.json") == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../x", "a/../../x", "a/..", "..\\x", "C:\\x.png", "C:/x.png", "\\\\server\\x", "~x/../y"),
        *("", ".", "./", None, 7, ["a"], "a\0b", "\ud800.png", "x" * 5000, "https://host/a.jpg", "file:///etc/passwd"),
    ],
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"^x\.json: "):
        files.resolve(tmp_path, name, "x.json")


def test_links_may_stay_inside_but_not_lead_out(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root / "real", other):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(b"x")
    (root / "within").symlink_to("real")
    (root / "file.png").symlink_to(other / "a.png")
    (root / "folder").symlink_to(other)
    (root / "loop").symlink_to("loop")
    assert files.resolve(root, "within/a.png", "x") == root / "within" / "a.png"
    for name in ("file.png", "folder/a.png", "loop"):
        with pytest.raises(DataError, match="link"):
            files.resolve(root, name, "x")
        assert files.resolve(root, name, "x", trusted=True) == root / name


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert files.resolve(tmp_path / "link", "a.png", "x") == tmp_path / "link" / "a.png"


def test_pipes_devices_folders_and_missing_files_are_errors_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", ".", "missing", "a\0b"):
        with pytest.raises(UsageError, match=name.replace("\0", ".*")):
            files.read_bytes(tmp_path / name, error=UsageError)


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe", b"[" * 200_000, b"1" * 5000, b'{"a": "\\ud800"}', b'["\\udfff"]', b"", b"\xef\xbb\xbf{,}"],
)
def test_json_that_is_none_names_the_file(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json: "):
        files.read_json(path)


def test_json_of_pairs_and_with_a_mark_is_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}')
    assert files.read_json(path) == {"a": "😀"}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a: " + "1" * 5000,
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: !!binary aGk=",
        "a: !!set {x}",
        "a: !!python/object:os.system x",
        "a: !!int abc",
        "a: !!timestamp 2024-99-99",
        "? [1, 2]\n: x",
        "a: 1\na: 2",
        "a: \x00",
        'a: "\\ud800"',
        "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30))]),
    ],
)
def test_yaml_that_is_none_is_one_error(text):
    with pytest.raises(UsageError, match=r"^x\.yaml: not valid YAML"):
        parse_yaml(text, "x.yaml", error=UsageError)


def test_yaml_of_a_recipe():
    text = "a: 1e-4\nb: 2024-05-01\nc: [yes, 1.5]\nd: &d {e: null}\nf: *d\n"
    wanted = {"a": 1e-4, "b": "2024-05-01", "c": [True, 1.5], "d": {"e": None}, "f": {"e": None}}
    assert parse_yaml(text, "x.yaml") == wanted


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")

    def fails(part):
        part.write_text("half", encoding="utf-8")
        raise OSError("no room")

    with pytest.raises(SegcliError, match="no room"):
        files.write_atomic(tmp_path / "a.txt", fails)
    with pytest.raises(DataError, match="no valid text"):
        files.write_text(tmp_path / "a.txt", "x\ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"


def test_only_our_own_parts_are_removed(tmp_path):
    names = [".git.12345678", ".env.template", f".last.pt.x1{files.PART}", "notes.segcli-part.txt"]
    for name in names:
        (tmp_path / name).write_text("x", encoding="utf-8")
    files.remove_parts(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(n for n in names if not n.endswith(files.PART))


def test_a_file_that_is_too_large_is_said_to_be_just_that(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"#" * 20)
    with pytest.raises(UsageError, match=r"^\S+r\.yaml: has 20 bytes, more than the 10 "):
        files.read_bytes(tmp_path / "r.yaml", error=UsageError, largest=10)
