"""Two processes with a device each are one process with two: to the bit, by the same files."""

from process_group import finished, results, same_bits, train_arguments


def test_two_processes_train_validate_and_evaluate_as_one(tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    text = finished(tmp_path / "logs" / "2", *train_arguments(two))
    assert "valid 20/20" in text and "targets per CPU second" in text
    finished(tmp_path / "logs" / "1", *train_arguments(one), count=1, devices=2)
    assert results(two) == results(one)
    assert same_bits(two, one)
    lines = [(run / "metrics.jsonl").read_text() for run in (two, one)]
    assert lines[0] == lines[1] and lines[0]
