"""Says whether what pip installed here is whole. Prints broken packages, one a line; with --repair it makes pip forget
them, so that it installs them again."""

import importlib.metadata
import shutil
import sys
from pathlib import Path


def is_whole(distribution):
    """Whether each file that pip wrote down is there, with the size that it wrote down. pip writes the list last."""
    files = distribution.files
    if not files or distribution.read_text("RECORD") is None:
        return False
    for file in files:
        path = Path(distribution.locate_file(file))
        # Python compiles again when it likes.
        if file.suffix == ".pyc" or file.size is None:
            continue
        if not path.is_file() or path.stat().st_size != file.size:
            return False
    return True


for folder in {Path(path) for path in sys.path if path.endswith("site-packages")}:
    for distribution in importlib.metadata.distributions(path=[str(folder)]):
        if is_whole(distribution):
            continue
        print(distribution.metadata["Name"])
        if "--repair" in sys.argv:
            shutil.rmtree(distribution._path)
