"""Tables on disk: whole, verified, and as readable as other files."""

import numpy as np
import pandas as pd
import pytest

from ser.tables import DAMAGED, read_table, write_table

TABLE = pd.DataFrame({"id": ["a", "b"], "confidence": [0.25, 0.75]})


def test_a_table_comes_back_and_replaces_the_one_before(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(TABLE.iloc[:1], path)
    write_table(TABLE, path)
    pd.testing.assert_frame_equal(read_table(path), TABLE)
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(TABLE, path)
    with pytest.raises(DAMAGED):
        write_table(TABLE.assign(mixed=["a", 1]), path)
    pd.testing.assert_frame_equal(read_table(path), TABLE)
    assert list(tmp_path.iterdir()) == [path]


def test_a_flipped_bit_of_a_number_is_noticed(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(TABLE, path)
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(0.75).tobytes()) + 6] ^= 1
    path.write_bytes(content)
    with pytest.raises(DAMAGED, match="CRC"):
        read_table(path)


def test_others_may_read_it_as_they_may_other_files(tmp_path):
    path, plain = tmp_path / "a.parquet", tmp_path / "b"
    write_table(TABLE, path)
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
