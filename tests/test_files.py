"""Files come whole or not at all."""

import os
import stat

import pytest

from condconv_mlx.files import atomic_file, replacing


def test_a_file_is_there_when_the_block_ended_well(tmp_path):
    target = tmp_path / "new" / "a.json"
    with replacing(target) as temporary:
        temporary.write_text("1")
        assert temporary.suffix == ".json" and not target.exists()
    assert target.read_text() == "1" and list(target.parent.iterdir()) == [target]


def test_what_was_there_stays_when_it_did_not(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_may_read_it_as_the_user_allows(tmp_path):
    before = os.umask(0o022)
    try:
        with atomic_file(tmp_path / "a") as file:
            file.write(b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
