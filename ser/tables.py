"""Tables on disk: Parquet files written whole or not at all, and verified when they are read."""

from pathlib import Path

import pandas as pd
import pyarrow

from ser.whole_files import replacing

DAMAGED = (OSError, KeyError, TypeError, ValueError, pyarrow.ArrowException)
"""What a damaged file raises: each came of one flipped bit, ValueError for text and JSON."""


def read_table(path: Path) -> pd.DataFrame:
    """The table; one of DAMAGED where its bytes are not those that were written."""
    return pd.read_parquet(path, page_checksum_verification=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Replace the file as a whole, each page with its checksum."""
    with replacing(path) as part:
        table.to_parquet(part, index=False, write_page_checksum=True)
