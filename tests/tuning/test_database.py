"""Records survive whatever happens to their file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from graphopt.codegen.tuning.database import Record, TuningDatabase, open_database
from graphopt.errors import InputError

DEFAULT = Record("k", "t", "kernel", "default", microseconds=10.0)


def faster(microseconds: float, **decisions: int) -> Record:
    return Record("k", "t", "kernel", "faster", decisions, microseconds, 10.0)


def test_what_was_added_is_read_by_others(tmp_path: Path) -> None:
    first, second = TuningDatabase(tmp_path / "new"), TuningDatabase(tmp_path / "new")
    records = [DEFAULT, faster(5.0, rows=4), Record("k", "t", "kernel", "wrong", {"rows": 2}, reason="bits")]
    for record in records[:2]:
        first.add(record)
    second.refresh()
    second.add(records[2])
    first.refresh()
    assert (
        first.of_kernel("k")
        == second.of_kernel("k")
        == TuningDatabase(tmp_path / "new").of_kernel("k")
        == records
    )


def test_the_best_is_the_fastest_that_beats_every_measurement_of_the_default(tmp_path: Path) -> None:
    database = TuningDatabase(tmp_path)
    assert database.best("k") is None and database.digest("t") is None
    database.add(DEFAULT)
    assert database.best("k") is None
    for record in (faster(8.0, rows=4), faster(6.0, rows=2), faster(7.0, rows=1)):
        database.add(record)
    best = database.best("k")
    assert best is not None and best.decisions == {"rows": 2}
    assert list(database.best_of_target("t")) == ["k"] and not database.best_of_target("other")
    database.add(Record("k", "t", "kernel", "slower", {"rows": 3}, 9.0, 5.5))
    assert database.best("k") is None, "the default was seen to take 5.5"


def test_the_last_record_of_a_schedule_counts(tmp_path: Path) -> None:
    database = TuningDatabase(tmp_path)
    for record in (DEFAULT, faster(6.0, rows=2), faster(8.0, rows=4)):
        database.add(record)
    database.add(Record("k", "t", "kernel", "slower", {"rows": 2}, 60.0, 50.0, "only alone"))
    best = database.best("k")
    assert best is not None and best.decisions == {"rows": 4}


def test_the_digest_is_that_of_the_schedules_that_will_be_used(tmp_path: Path) -> None:
    database = TuningDatabase(tmp_path)
    database.add(DEFAULT)
    database.add(faster(8.0, rows=4))
    before = database.digest("t")
    database.add(Record("k", "t", "kernel", "slower", {"rows": 3}, 9.0, 10.0))
    assert database.digest("t") == before
    database.add(faster(6.0, rows=2))
    assert database.digest("t") not in (before, None)


def test_forgetting_is_a_record_too(tmp_path: Path) -> None:
    database = TuningDatabase(tmp_path)
    database.add(DEFAULT)
    database.add(faster(8.0, rows=4))
    size = database.path.stat().st_size
    database.add(Record("k", "t", "kernel", "forget"))
    assert database.of_kernel("k") == [] and database.best_of_target("t") == {}
    assert database.path.stat().st_size > size


def test_every_cut_of_the_file_leaves_the_records_before_it(tmp_path: Path) -> None:
    whole = DEFAULT.to_line() + faster(8.0, rows=4).to_line()
    for length in range(len(whole)):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / "records.jsonl").write_bytes(whole[:length])
        database = TuningDatabase(folder)
        complete = whole[:length].count(b"\n")
        assert database.of_kernel("k") == [DEFAULT, faster(8.0, rows=4)][:complete]
        database.add(faster(6.0, rows=2))
        assert TuningDatabase(folder).of_kernel("k")[-1] == faster(6.0, rows=2)


@pytest.mark.parametrize(
    "line",
    (
        b"not json",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"{}",
        b'{"version": 2}',
        b'{"version": 1, "kernel": "k"}',
        DEFAULT.to_line().replace(b"10.0", b'"fast"').strip(),
        DEFAULT.to_line().replace(b"10.0", b"-1").strip(),
        DEFAULT.to_line().replace(b'"default"', b'"best"').strip(),
        faster(8.0, rows=4).to_line().replace(b"4", b'"four"').strip(),
        faster(8.0, rows=4).to_line().replace(b'"k"', b"[]").strip(),
    ),
)
def test_a_damaged_line_is_skipped_and_told(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = faster(8.0, rows=4)
    (tmp_path / "records.jsonl").write_bytes(DEFAULT.to_line() + line + b"\n" + good.to_line())
    with caplog.at_level(logging.WARNING):
        database = open_database(tmp_path)
    assert database is not None and database.of_kernel("k") == [DEFAULT, good]
    assert "1 line is no record" in caplog.text and str(tmp_path) in caplog.text


def test_a_line_is_json_that_stands_for_itself() -> None:
    assert json.loads(faster(8.0, rows=4).to_line()) == {
        "version": 1,
        "kernel": "k",
        "target": "t",
        "name": "kernel",
        "status": "faster",
        "decisions": {"rows": 4},
        "microseconds": 8.0,
        "default_microseconds": 10.0,
    }


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot") as caught:
        TuningDatabase(tmp_path / "file").add(DEFAULT)
    assert caught.value.code == "GO-3001"


def test_where_the_database_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    database = TuningDatabase.of_user()
    assert database is not None and database.path == tmp_path / "tuning" / "records.jsonl"
    monkeypatch.setenv("GRAPHOPT_CACHE", "off")
    assert TuningDatabase.of_user() is None and open_database(True) is None and open_database(False) is None
