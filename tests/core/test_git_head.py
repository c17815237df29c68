"""The commit is read off git's files: no program is started, and odd files are no commit."""

import subprocess

import pytest

from segcli.core import git_head

DIGITS = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A folder with a .git, in which starting any program fails."""
    for name in ("Popen", "run", "check_output"):
        monkeypatch.setattr(subprocess, name, lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    return tmp_path / ".git"


def test_branch_packed_branch_and_detached(git):
    (git / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    assert git_head.commit(git.parent) is None, "before the first commit"
    (git / "packed-refs").write_text(f"# pack-refs\n{DIGITS} refs/heads/main\n", encoding="utf-8")
    assert git_head.commit(git.parent) == DIGITS[:12]
    (git / "refs" / "heads" / "main").write_text("f" * 40 + "\n", encoding="utf-8")
    assert git_head.commit(git.parent) == "f" * 12, "the loose reference is the newer one"
    (git / "HEAD").write_text(DIGITS + "\n", encoding="utf-8")
    (git.parent / "deep" / "er").mkdir(parents=True)
    assert git_head.commit(git.parent / "deep" / "er") == DIGITS[:12]


def test_worktree(git, tmp_path):
    own = git / "worktrees" / "other"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/side\n", encoding="utf-8")
    (own / "commondir").write_text("../..\n", encoding="utf-8")
    (git / "refs" / "heads" / "side").write_text(DIGITS, encoding="utf-8")
    tree = tmp_path / "other"
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {own}\n", encoding="utf-8")
    assert git_head.commit(tree) == DIGITS[:12]


@pytest.mark.parametrize("head", [b"", b"\xff\xfe", b"ref: ../../../secret", b"ref: /etc/passwd", b"ref:", b"z" * 40])
def test_hostile_heads_are_no_commit(git, tmp_path, head):
    (tmp_path.parent / "secret").write_text(DIGITS, encoding="utf-8")
    (git / "HEAD").write_bytes(head)
    assert git_head.commit(git.parent) is None


def test_outside_git(tmp_path):
    assert git_head.commit(tmp_path) is None
