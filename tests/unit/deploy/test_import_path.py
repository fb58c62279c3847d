import os
import sysconfig
from pathlib import Path

from tailplane.deploy.import_path import import_path


def test_what_every_process_has_stays_out(tmp_path: Path) -> None:
    entries = [str(tmp_path), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/usr/lib/python311.zip"]
    assert import_path(entries) == str(tmp_path)


def test_relative_and_repeated_entries_become_one_absolute(tmp_path: Path) -> None:
    assert import_path(["", os.getcwd()]).split(os.pathsep) == [os.getcwd()]


def test_folders_that_are_not_there_stay_out() -> None:
    assert import_path(["/no/such/folder"]) == ""
