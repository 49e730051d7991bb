"""`python -m ser.corpora.demo FOLDER SEED`: speaks all clips; `render_demo` is the way to call it.

Ends with status 1 and one line on stderr where espeak-ng cannot be used, and at once where its
input ends: nobody is left who would take the clips.
"""

import os
import sys
import threading
from pathlib import Path

from ser.corpora.demo.cast import write_corpora
from ser.errors import SerError


def _end_with_the_input() -> None:
    os.read(sys.stdin.fileno(), 1)  # waits: nothing is ever written there
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    try:
        write_corpora(Path(sys.argv[1]), seed=int(sys.argv[2]))
    except SerError as error:
        sys.exit(str(error))
