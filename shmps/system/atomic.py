"""Files and folders that get their name when they are complete, and the leftovers of killed writers.

    file      no name                  -> .shmps-<16 hexadecimal digits>.tmp -> NAME
    folder    .NAME.tmp/data/ and MARK                                       -> NAME/
              the writer holds a lock ----------------------------------------^

On a file system without unnamed files, a file has the second name from the beginning. A folder .NAME.tmp has
MARK in it from the beginning. A lock ends with its process. So a file with the second name, or a folder with
MARK in it, is a leftover if nobody locks it. The next writer in the same folder removes it, and nothing else.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shmps.errors import DataError
from shmps.system.failpoints import reach

MARK = ".shmps-unfinished"
_FILE = re.compile(r"\.shmps-[0-9a-f]{16}\.tmp")
_FOLDER = re.compile(r"\..+\.tmp", re.DOTALL)
# The errors of a file system without unnamed files.
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)
_NO_LOCKS = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF)


@contextmanager
def replacing(target: str) -> Iterator[int]:
    """Yield the descriptor of a new file, which replaces `target` in one step when the block ends.

    The new file keeps the mode and owner of the file that it replaces. After an error in the block or at its
    end, `target` is as it was, and no other file remains. Raises OSError.
    """
    folder = os.path.dirname(target)
    remove_leftovers(folder)
    temporary = os.path.join(folder, f".shmps-{secrets.token_hex(8)}.tmp")
    older = os.stat(target) if os.path.exists(target) else None
    # Not tempfile.mkstemp: it ignores the umask, and no other user could read the file.
    mode = 0o666 if older is None else 0o600
    unnamed = _unnamed_file(folder, mode)
    descriptor = _named_file(temporary, mode) if unnamed is None else unnamed
    try:
        if older is not None:
            _keep_rights(descriptor, older)
        yield descriptor
        # Before the rename: otherwise a crash of the machine could leave the new name without its bytes.
        os.fsync(descriptor)
        reach("scheduler: file whole")
        if unnamed is not None:
            # linkat cannot replace a file, so the file gets a temporary name first. With a src_dir_fd Python
            # calls linkat; without one it calls link, which would not follow the link in /proc.
            os.link(f"/proc/self/fd/{descriptor}", temporary, src_dir_fd=descriptor, follow_symlinks=True)
        reach("scheduler: file named")
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        with suppress(OSError):  # fsync has raised it already
            os.close(descriptor)


def _unnamed_file(folder: str, mode: int) -> int | None:
    """Return a locked descriptor; None without unnamed files, or without /proc, which gives one a name."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        descriptor = os.open(folder, os.O_WRONLY | os.O_TMPFILE, mode)
    except OSError as error:
        if error.errno in _NO_UNNAMED:
            return None
        raise
    _hold(descriptor)
    return descriptor


def _named_file(temporary: str, mode: int) -> int:
    """Return the locked descriptor of a new file."""
    while True:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        if _hold(descriptor) and _is_at(descriptor, temporary):
            return descriptor
        os.close(descriptor)  # before the lock, another writer took the file for a leftover and removes it
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _keep_rights(descriptor: int, older: os.stat_result) -> None:
    """Give a new file the owner and the mode of an older file, as far as the system allows."""
    mode = stat.S_IMODE(older.st_mode) & 0o777
    try:
        os.fchown(descriptor, older.st_uid, older.st_gid)
    except OSError:  # only root gives files away
        try:
            os.fchown(descriptor, -1, older.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG  # they were another group's
    with suppress(OSError):  # a file system without modes
        os.fchmod(descriptor, mode)


@contextmanager
def new_folder(target: str) -> Iterator[str]:
    """Yield a new folder, which gets the name `target` when the block ends.

    An error removes the folder. Raises DataError if `target` exists, another process makes it, or
    `.NAME.tmp` beside it is something that shmps did not make; OSError.
    """
    parent, name = os.path.split(os.path.abspath(target))
    outer = os.path.join(parent, f".{name}.tmp")
    inner, mark = os.path.join(outer, "data"), os.path.join(outer, MARK)
    _must_be_free(target)
    os.makedirs(parent, exist_ok=True)
    remove_leftovers(parent)
    with suppress(FileExistsError):
        os.mkdir(outer)
    reach("folder: made")
    with _alone_in_new(outer, target):
        try:
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            reach("folder: marked")
            os.mkdir(inner)
            yield inner
            sync_folder(inner)
            _must_be_free(target)
            reach("folder: whole")
            os.rename(inner, target)
            reach("folder: named")
        finally:
            _remove(outer)
        sync_folder(parent)


def _must_be_free(target: str) -> None:
    if os.path.lexists(target):
        raise DataError(f"{target}: the name must be free, got an existing one; remove it or name another")


@contextmanager
def _alone_in_new(outer: str, target: str) -> Iterator[None]:
    """Lock the empty folder `outer`, in which `target` is made. Raises DataError."""
    try:
        descriptor = os.open(outer, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (NotADirectoryError, FileNotFoundError) as error:
        raise _taken(outer, target) from error
    except OSError as error:
        raise (_taken(outer, target) if error.errno == errno.ELOOP else error) from error
    with _closing(descriptor):
        if not _hold(descriptor) or not _is_at(descriptor, outer):
            raise DataError(f"{target}: one process at a time may make it, got a second; wait for the first")
        if os.listdir(outer):  # an empty one was left by a conversion that was killed before the mark
            raise _taken(outer, target)
        yield


def _taken(outer: str, target: str) -> DataError:
    return DataError(
        f"{target}: {outer}, its name until it is complete, must be free, got something that no conversion "
        f"made; rename that, or name another"
    )


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold the lock of a folder. Raises DataError if another process, or thread, holds it; OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    with _closing(descriptor):
        if not _hold(descriptor):
            raise DataError(f"{folder}: one process at a time may write into it, got a second; name another")
        yield


def remove_leftovers(folder: str) -> None:
    """Remove what killed writers left in a folder."""
    with suppress(OSError):  # a folder may be writable and yet not listable
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if _FILE.fullmatch(name):
                _remove_leftover(path, stat.S_ISREG, os.unlink)
            elif _FOLDER.fullmatch(name) and os.path.lexists(os.path.join(path, MARK)):
                _remove_leftover(path, stat.S_ISDIR, _remove)


def _remove_leftover(path: str, is_kind: Callable[[int], bool], remove: Callable[[str], None]) -> None:
    """Remove a file or folder unless it is locked, which means that its writer is at work."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with _closing(descriptor):
            if is_kind(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                remove(path)


def _remove(outer: str) -> None:
    """Remove a folder of `new_folder` with all that is in it, the mark last."""
    shutil.rmtree(os.path.join(outer, "data"), ignore_errors=True)
    with suppress(OSError):
        os.unlink(os.path.join(outer, MARK))
    with suppress(OSError):
        os.rmdir(outer)


def _hold(descriptor: int) -> bool:
    """Take the lock; return whether this process holds it now. True on a file system without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    """Unlock and close a descriptor after the block.

    Unlock, because a process that was forked meanwhile has a copy of the descriptor, and with it the lock.
    """
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Make the names of the files in a folder survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
