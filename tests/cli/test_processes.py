"""Only one run at a time can use a folder."""

from types import SimpleNamespace

import pytest

from hf_bark_semantic.cli.processes import only_run_in


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    with only_run_in(tmp_path):
        with pytest.raises(SystemExit, match="Another run uses .*Wait for it"), only_run_in(tmp_path):
            pytest.fail("two are at work")
        with only_run_in(tmp_path, SimpleNamespace(is_main_process=False)):
            pass  # it belongs to the run
    with only_run_in(tmp_path):
        pass
    assert not list(tmp_path.iterdir())  # nothing to be published, or to be taken for a file of a model


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    (tmp_path / ".a.json.0.unfinished").write_text("{")
    (tmp_path / "a.json").write_text("{}")
    with only_run_in(tmp_path):
        assert {file.name for file in tmp_path.iterdir()} == {".lock", "a.json"}


def test_a_new_folder_stays_if_something_was_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), only_run_in(tmp_path / "nothing"):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), only_run_in(tmp_path / "something"):
        (tmp_path / "something" / "a.json").write_text("{}")
        raise KeyboardInterrupt
    (tmp_path / "mine").mkdir()
    with only_run_in(tmp_path / "mine"):
        pass
    assert {folder.name for folder in tmp_path.iterdir()} == {"something", "mine"}
