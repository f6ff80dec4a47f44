"""Files with a damage, one after the other."""


def overwrite(path, data):
    """Make `data` the content of a file.

    `write_bytes` truncates the file first: ext4 then writes the new content to the disk, which takes 10 ms.
    """
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()
