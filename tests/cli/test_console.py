"""Progress where standard error is a file."""

import time

import pytest

from showtell.cli.console import ConsoleReporter


def test_a_file_gets_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with ConsoleReporter() as report:
        for done in range(2000, 13_000, 10):  # what was done before is not of this rate
            report.progress("encoding", done, 13_000, "pictures")
            now += 1
            if done == 3240:
                break
        for _ in range(50):
            report.progress("captioning", 5, 0, "images")
            now += 1
    assert capsys.readouterr().err.splitlines() == [
        "encoding: 2,600 of 13,000 pictures, 10/s, 17 min left",
        "encoding: 3,200 of 13,000 pictures, 10/s, 16 min left",
    ]
    with ConsoleReporter() as report:
        for done in (0, 90, 91):
            report.progress("captioning", done, 0, "images")
            now += 60
    assert capsys.readouterr().err.splitlines() == [
        "captioning: 90 images, 1.5/s",
        "captioning: 91 images, 0.8/s",
    ]
    with ConsoleReporter(quiet=True) as report:
        for done in (0, 90):
            report.progress("captioning", done, 0, "images")
            now += 60
    assert capsys.readouterr().err == ""
