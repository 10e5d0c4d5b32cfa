"""Build sdist and wheel, and try the wheel in an empty environment: `make dist`.

    python tests/helpers/wheel_smoke.py dist

The sdist is made of the files that git tracks, and the wheel of the sdist. What each of
them contains is compared with the repository. The wheel is then installed, with the
tested versions, into an environment that has nothing, and `wheel_trial.py` runs there.
It takes minutes, since pip downloads TensorFlow, and needs nothing but Python and git.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRIAL = Path(__file__).with_name("wheel_trial.py")
PACKAGE = "keras_densenet"


def main(arguments: list[str]) -> None:
    """Build into a folder, which must be empty, and try what was built.

    Args:
        arguments: The folder.
    """
    (folder,) = map(Path, arguments)
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"error: {folder} has files of before: delete them.")
    with tempfile.TemporaryDirectory() as scratch:
        sdist, wheel = built(Path(scratch), folder.resolve())
        refuse_difference(sdist.name, in_sdist(sdist), needed_in_sdist())
        refuse_difference(wheel.name, in_wheel(wheel), needed_in_wheel())
        tried(Path(scratch), wheel)


def built(scratch: Path, folder: Path) -> tuple[Path, Path]:
    """Return the sdist and the wheel, which other tools find well-formed."""
    source = scratch / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    python = environment(scratch / "builder")
    run(python, "-m", "pip", "install", "--quiet", "build", "twine")
    run(python, "-m", "build", "--outdir", folder, source)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    run(python, "-m", "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def tracked() -> list[str]:
    """Name the files of the repository, as they are now."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    names = listed.stdout.strip("\0").split("\0")
    return [name for name in names if (ROOT / name).is_file()]


def needed_in_sdist() -> set[str]:
    """Name what is needed to build and to test: all but what only a clone needs."""
    return {name for name in tracked() if not name.startswith(".")}


def needed_in_wheel() -> set[str]:
    """Name the files of the package."""
    return {name for name in tracked() if name.startswith(f"{PACKAGE}/")}


def in_sdist(sdist: Path) -> set[str]:
    """Name the files in an sdist, but for those that building adds."""
    with tarfile.open(sdist) as archive:
        files = [member.name for member in archive if member.isfile()]
    names = {name.partition("/")[2] for name in files}
    added = {"PKG-INFO", "setup.cfg"}
    return {n for n in names - added if not n.startswith(f"{PACKAGE}.egg-info/")}


def in_wheel(wheel: Path) -> set[str]:
    """Name the files in a wheel, but for what it says about itself."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    about = f"{PACKAGE}-{wheel.name.split('-')[1]}.dist-info/"
    return {name for name in names if not name.startswith(about)}


def refuse_difference(name: str, found: set[str], needed: set[str]) -> None:
    """End if files are missing, or if there are others."""
    missing, others = sorted(needed - found), sorted(found - needed)
    if missing or others:
        wrong = [f"lacks {missing}"] if missing else []
        wrong += [f"should not have {others}"] if others else []
        sys.exit(f"error: {name} {', and '.join(wrong)}.")
    print(f"{name} has the {len(found)} files that it needs.")


def tried(scratch: Path, wheel: Path) -> None:
    """Install a wheel into an empty environment, and run the trial there."""
    python = environment(scratch / "environment")
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, wheel)
    run(python, "-m", "pip", "check")
    working = scratch / "working"
    working.mkdir()
    run(python, "-I", TRIAL, cwd=working)


def environment(folder: Path) -> Path:
    """Make an environment without packages, and return its Python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command that must succeed, without Python's variables of this process."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run(list(map(str, command)), check=True, env=clean, cwd=cwd)


if __name__ == "__main__":
    main(sys.argv[1:])
