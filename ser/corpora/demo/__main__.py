"""`python -m ser.corpora.demo FOLDER SEED`: speaks all clips; `render_demo` is the way to call it.

Ends with status 1 and one line on stderr where espeak-ng cannot be used.
"""

import sys
from pathlib import Path

from ser.corpora.demo.cast import write_corpora
from ser.errors import SerError

if __name__ == "__main__":
    try:
        write_corpora(Path(sys.argv[1]), seed=int(sys.argv[2]))
    except SerError as error:
        sys.exit(str(error))
