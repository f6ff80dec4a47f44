"""A killed writer leaves nothing, or files that the next writer removes. No writer removes other files."""

import errno
import fcntl
import multiprocessing
import os
import signal
import stat
import tempfile

import numpy as np
import pytest

from shmps.data import mapped
from shmps.errors import DataError
from shmps.models.formats import load, save
from shmps.models.model import Model
from shmps.system import atomic, failpoints

OLDER, NEWER = (Model(np.full(3, value), 0.0, (0, 1)) for value in (1.0, 2.0))
FILE_PLACES = ("scheduler: file half written", "scheduler: file whole", "scheduler: file named")
FOLDER_PLACES = ("folder: made", "folder: marked", "folder: whole", "folder: named")
SIGNALS = (signal.SIGKILL, signal.SIGHUP)
NOBODY = 65534


def ended(function, *args, code):
    """Run a function in another process, and check the exit code."""
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    process.start()
    process.join()
    assert process.exitcode == code
    process.close()


def killed(place, number, function, *args):
    """Run a function in another process, which a signal ends at a failpoint."""

    def run():
        with failpoints.simulated(lambda place: os.kill(os.getpid(), number)):
            failpoints.arm(place)
            function(*args)

    ended(run, code=-number)


@pytest.fixture(params=["unnamed", "no O_TMPFILE", "no locks either"])
def file_system(request, monkeypatch):
    """File systems with fewer and fewer features."""
    real = os.open

    def without_unnamed(path, flags, *args, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *args, **named)

    def without_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if request.param != "unnamed":
        monkeypatch.setattr(os, "open", without_unnamed)
    if request.param == "no locks either":
        monkeypatch.setattr(fcntl, "flock", without_locks)
    return request.param


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("place", FILE_PLACES)
def test_a_killed_writer_of_a_file_leaves_nothing_that_the_next_does_not_remove(
    place, number, file_system, tmp_path
):
    path = tmp_path / "m"
    save(OLDER, path)
    killed(place, number, save, NEWER, path)
    assert load(path).coefficients.tolist() == [1.0] * 3
    if file_system == "unnamed" and place != FILE_PLACES[-1]:
        assert os.listdir(tmp_path) == ["m"]
    save(NEWER, path)
    assert load(path).coefficients.tolist() == [2.0] * 3
    # Without locks, a leftover looks like a file that another process is writing.
    assert len(os.listdir(tmp_path)) == 1 + (file_system == "no locks either")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("place", FOLDER_PLACES)
def test_a_killed_conversion_leaves_nothing_that_the_next_does_not_remove(place, number, tmp_path):
    (tmp_path / "rows").write_text("1 1:1\n0 2:1\n")
    killed(place, number, mapped.convert, tmp_path / "rows", tmp_path / "d")
    mapped.convert(tmp_path / "rows", tmp_path / ("other" if place == "folder: named" else "d"))
    assert (tmp_path / "d").is_dir()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert sorted(os.listdir(tmp_path / "d")) == [
        "data.npy", "indices.npy", "indptr.npy", "labels.npy", "meta.json"
    ]  # fmt: skip


def file_of_a_user(path):
    path.write_text("notes")


def folder_of_a_user(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def link_to_a_folder(path):
    folder_of_a_user(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def marked_link(path):
    """A link to a folder that another conversion left."""
    folder_of_a_user(path.with_name("elsewhere"))
    (path.with_name("elsewhere") / atomic.MARK).touch()
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [file_of_a_user, folder_of_a_user, link_to_a_folder, marked_link, os.mkfifo])
def test_a_conversion_removes_no_folder_that_no_conversion_made(make, tmp_path):
    (tmp_path / "rows").write_text("1 1:1\n0 2:1\n")
    taken = tmp_path / ".d.tmp"
    make(taken)
    before = sorted((path, os.lstat(path).st_ino) for path in tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"\.d\.tmp, .*, got something that no conversion made; rename"):
        mapped.convert(tmp_path / "rows", tmp_path / "d")
    save(OLDER, tmp_path / "m")
    (tmp_path / "m").unlink()
    assert sorted((path, os.lstat(path).st_ino) for path in tmp_path.rglob("*")) == before


def test_a_writer_removes_no_file_that_no_writer_left(tmp_path):
    name = ".shmps-0123456789abcde{}.tmp"
    (tmp_path / name.format(0)).mkdir()
    (tmp_path / name.format(1)).symlink_to("target")
    (tmp_path / "target").write_text("of a user")
    os.mkfifo(tmp_path / name.format(2))
    for other in (".shmps-notes.tmp", ".m.tmp", "m.tmp", ".shmps-0123456789abcdef.tmp.txt"):
        (tmp_path / other).touch()
    before = sorted(os.listdir(tmp_path))
    with open(tmp_path / name.format(3), "w") as written:  # by another process
        fcntl.flock(written, fcntl.LOCK_EX)
        save(OLDER, tmp_path / "m")
        assert sorted(os.listdir(tmp_path)) == sorted([*before, "m", name.format(3)])
    save(OLDER, tmp_path / "m")  # that process has ended
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "m"])


def test_a_copy_of_the_descriptor_in_a_forked_process_keeps_no_lock(tmp_path):
    read, write = os.pipe()
    with atomic.locked(str(tmp_path)):
        process = multiprocessing.get_context("fork").Process(target=os.read, args=(read, 1))
        process.start()
        with pytest.raises(DataError, match="got a second"), atomic.locked(str(tmp_path)):
            pass
    with atomic.locked(str(tmp_path)):
        os.write(write, b"x")
        process.join()
    process.close()
    os.close(read)
    os.close(write)


# --- mode and owner ---


def rights(path):
    status = os.stat(path)
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_the_mode_of_a_file_that_is_replaced_is_kept(mode, file_system, tmp_path):
    path = tmp_path / "m"
    save(OLDER, path)
    path.chmod(mode)
    save(NEWER, path)
    assert rights(path) == (mode, os.geteuid(), os.getegid())


def test_a_private_file_is_private_from_the_first_byte(file_system, tmp_path, monkeypatch):
    path, real, modes = tmp_path / "m", os.write, []
    save(OLDER, path)
    path.chmod(0o600)

    def write(descriptor, data):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return real(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        save(NEWER, path)
    assert set(modes) == {0o600}


as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root gives files away, and takes another's place"
)


@as_root
def test_the_owner_of_a_file_that_root_replaces_is_kept(file_system, tmp_path):
    save(OLDER, tmp_path / "m")
    os.chown(tmp_path / "m", 1234, 5678)
    (tmp_path / "m").chmod(0o640)
    save(NEWER, tmp_path / "m")
    assert rights(tmp_path / "m") == (0o640, 1234, 5678)


@as_root
def test_where_the_group_cannot_be_kept_no_other_group_gets_its_rights():
    def as_nobody(path):
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        save(NEWER, path)

    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: only root may enter the folders above it
        os.chmod(folder, 0o777)
        path = os.path.join(folder, "m")
        save(OLDER, path)
        os.chmod(path, 0o664)
        ended(as_nobody, path, code=0)
        assert rights(path) == (0o604, NOBODY, NOBODY)
