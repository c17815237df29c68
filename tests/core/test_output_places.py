"""Where a command may write: --out may be a link, its subfolders may not lead elsewhere, and no folder is one line."""

import pytest

from segcli.core import folders, run_parts
from segcli.core.errors import DataError, ModelError, UsageError
from segcli.core.files import write_text
from segcli.engine.run_folder import RunFolder


@pytest.mark.parametrize("kind", ["link out", "dangling out", "file"])
def test_a_subfolder_that_is_a_link_elsewhere_is_refused(tmp_path, kind):
    out = tmp_path / "out"
    out.mkdir()
    if kind == "link out":
        (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        (out / "overlays").write_text("mine", encoding="utf-8")
    else:
        (out / "overlays").symlink_to("../elsewhere")
    with pytest.raises(DataError, match=r"overlays: is (a link that leads out, to .*elsewhere|there already)"):
        folders.claim(out, ["overlays/a.jpg"])
    assert not [*tmp_path.glob("elsewhere/*")]


def test_a_subfolder_may_be_a_link_inside_and_elsewhere_where_that_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "out" / "there").mkdir(parents=True)
    (tmp_path / "out" / "overlays").symlink_to("there")
    folders.claim(tmp_path / "out", ["overlays/a.jpg"])
    (tmp_path / "out" / "masks").symlink_to(tmp_path)
    monkeypatch.setenv("SEGCLI_TRUST_PATHS", "1")
    folders.claim(tmp_path / "out", ["masks/a.png"])


def test_a_link_to_a_folder_that_is_not_there_yet_is_followed(tmp_path):
    (tmp_path / "out").symlink_to("target")
    folders.claim(tmp_path / "out", ["a.txt"])
    write_text(tmp_path / "out" / "a.txt", "text")
    assert (tmp_path / "target" / "a.txt").read_text(encoding="utf-8") == "text"
    (tmp_path / "run").symlink_to("new run")
    RunFolder.create("name", tmp_path / "run", force=False)
    assert (tmp_path / "new run").is_dir()


@pytest.mark.parametrize("kind", ["loop", "below a loop", "file", "link to a file", "below a file"])
def test_what_can_be_no_folder_is_an_error_of_usage(tmp_path, kind):
    out = tmp_path / "out"
    if "loop" in kind:
        out.symlink_to("out")
    else:
        (tmp_path / "mine").write_text("mine", encoding="utf-8")
        out.symlink_to("mine")
    out = {"file": tmp_path / "mine"}.get(kind, out / "sub" if "below" in kind else out)
    for force in (False, True):
        with pytest.raises(UsageError, match=r"back to itself|is no folder|is a file"):
            RunFolder.create("name", out, force)
    with pytest.raises(UsageError, match=r"back to itself|is no folder|is a file"):
        folders.claim(out, ["a.txt"])


def test_links_in_the_folders_of_a_run_may_not_lead_out(tmp_path):
    run = tmp_path / "run"
    (run / "predictions").mkdir(parents=True)
    (run / "predictions" / "val_semantic").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="val_semantic: is a link that leads out of the run"):
        run_parts.confine(run)
    (run / "predictions" / "val_semantic").unlink()
    (run / "predictions" / "val_semantic").symlink_to(".")
    run_parts.confine(run)


def test_commands_end_with_the_code_of_usage(segcli, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    result = segcli("compare", "--published", "--csv", "loop/table.csv")
    assert result.code == 2
    assert "loop: is a link that leads back to itself" in result.err
