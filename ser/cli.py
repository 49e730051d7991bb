"""The `ser` command: what lies on disk, how it looks, what a model says of a file.

Each command imports what it needs when it runs, so that `ser --help` answers at once.
"""

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ser.arguments import at_least_1, filled, filled_path
from ser.errors import INTERRUPTED, MISTAKE, SerError, is_full, of_the_disk

if TYPE_CHECKING:
    from ser.predict import Answer, Recognizer
    from ser.run_folder import RunFolder

SYNTHETIC = (
    "warning: this model was trained on SYNTHETIC SPEECH: its answers show that the code works, "
    "and say nothing about people.\n"
)
ROOT_HELP = "a data folder, one corpus's folder, or a folder or manifest of your own speech"
CACHE_HELP = "cache folder (SER_CACHE, or ./cache)"
EPILOG = """\
examples
  ser data list                          the corpora, what they are, how to get them
  ser data download ravdess              into data/ravdess (SER_DATA chooses another folder)
  ser data check data                    counts against the published ones, and each problem file
  ser data plot data/ravdess             waveform, log-mel and MFCC by emotion, durations, balance
  ser predict RUN call.wav               the emotion of a recording, or of all in a folder
  ser wrong RUN                          the test clips that the run got wrong, surest first
  ser explain RUN                        what it learned, and its mistakes to listen to, as pages
  ser explain RUN --clip call.wav        which moments of a recording the answer rests on
  ser card RUN                           the run's MODEL_CARD.md, with what was measured since

RUN is a run folder, an MLflow run id, a checkpoint, or `last`.
Training, scoring and sweeps: python train.py --help, evaluate.py --help, sweep.py --help.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; a user's mistake is one paragraph on stderr and exit status 2.

    So are a full disk and a folder that refuses to be written; Ctrl-C is one line and status 130.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        try:
            options = build_parser().parse_args(arguments)
            options.run_command(options)
        finally:
            sys.stdout.flush()  # a pipe that nobody reads shows here, and not at Python's own end
    except SerError as error:
        _tell(error)
        sys.exit(MISTAKE)
    except BrokenPipeError:  # `ser wrong RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        mistake = of_the_disk(error)
        if mistake is None:
            raise
        if is_full(error):  # what could not be printed would be tried again at Python's own end
            sys.stdout = io.StringIO()
        _tell(mistake)
        sys.exit(MISTAKE)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)


def _tell(error: SerError) -> None:
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")


def build_parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    parser = argparse.ArgumentParser(
        prog="ser",
        description="Speech emotion recognition: corpora on disk, and a trained model's answers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    data = commands.add_parser("data", help="corpora: list, download, check, plot")
    _add_data_commands(data.add_subparsers(metavar="COMMAND", required=True))

    predict = commands.add_parser("predict", help="the emotion of recordings")
    predict.add_argument("run", type=filled, help="run folder, MLflow run id, checkpoint or `last`")
    predict.add_argument(
        "files", nargs="+", type=filled_path, help="audio files, or folders of them"
    )
    predict.add_argument("--encoder-path", help="where the pretrained encoder lies, if moved")
    predict.add_argument("--abstain", action="store_true", help="`uncertain` where it is not sure")
    predict.add_argument(
        "--below", type=float, metavar="CONFIDENCE", help="--abstain below this, not the run's own"
    )
    predict.add_argument("--utterances", action="store_true", help="answer each utterance")
    predict.add_argument("--json", action="store_true", help="one JSON object a line")
    predict.set_defaults(run_command=_predict)

    wrong = commands.add_parser("wrong", help="the test clips that a run got wrong")
    wrong.add_argument("run", type=filled, help="run folder, MLflow run id, checkpoint or `last`")
    wrong.add_argument("--limit", type=at_least_1, default=20, help="how many on a terminal (20)")
    wrong.set_defaults(run_command=_wrong)
    _add_explain_commands(commands)
    return parser


def _add_explain_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    explain = commands.add_parser("explain", help="figures and pages on what a run learned")
    explain.add_argument(
        "runs",
        nargs="+",
        type=filled,
        metavar="RUN",
        help="the run; further ones are counted in its mistakes",
    )
    explain.add_argument(
        "--clip",
        type=filled_path,
        help="this alone: which moments of a recording the answer rests on",
    )
    explain.add_argument(
        "--limit", type=at_least_1, default=40, help="clips on the page of mistakes (40)"
    )
    explain.add_argument("--encoder-path", help="where the pretrained encoder lies, if moved")
    explain.set_defaults(run_command=_explain)

    card = commands.add_parser(
        "card", help="write a run's MODEL_CARD.md anew, from what it has now"
    )
    card.add_argument("run", type=filled, help="run folder, MLflow run id, checkpoint or `last`")
    card.add_argument("--encoder-path", help="where the pretrained encoder lies, if moved")
    card.set_defaults(run_command=_card)


def _add_data_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    listed = commands.add_parser("list", help="the corpora that can be read")
    listed.set_defaults(run_command=_list)

    download = commands.add_parser("download", help="fetch a corpus; goes on where it stopped")
    download.add_argument("name", help="a corpus of `ser data list`")
    download.add_argument(
        "--root",
        type=filled_path,
        default=_data_root(),
        help="into ROOT/NAME (SER_DATA, or ./data)",
    )
    download.set_defaults(run_command=_download)

    check = commands.add_parser("check", help="count clips and list every problem file")
    check.add_argument("root", type=filled_path, help=ROOT_HELP)
    check.add_argument("--cache", type=filled_path, default=_cache_root(), help=CACHE_HELP)
    check.set_defaults(run_command=_check)

    plot = commands.add_parser("plot", help="figures of the speech itself")
    plot.add_argument("root", type=filled_path, help=ROOT_HELP)
    plot.add_argument(
        "--out", type=filled_path, default=Path("figures"), help="folder for the PNGs (./figures)"
    )
    plot.add_argument("--cache", type=filled_path, default=_cache_root(), help=CACHE_HELP)
    plot.set_defaults(run_command=_plot)


def _data_root() -> Path:
    return Path(os.environ.get("SER_DATA", "data")).expanduser()


def _cache_root() -> Path:
    return Path(os.environ.get("SER_CACHE", "cache")).expanduser()


def _list(options: argparse.Namespace) -> None:
    from ser.corpora import CORPORA, find_corpora
    from ser.corpora.base import how_to_get

    root = _data_root()
    found = find_corpora(root) if root.is_dir() else {}
    for name, corpus in sorted(CORPORA.items()):
        size = corpus.published
        counts = (
            f"{size.clips:,} clips, {size.speakers} speakers" if size else "no published counts"
        )
        print(f"{name:14}{corpus.title}: {counts}. {corpus.licence}.")
        where = f"found in {found[name]}" if name in found else how_to_get(corpus)
        print(f"{'':14}{where}")


def _download(options: argparse.Namespace) -> None:
    from ser.corpora.download import download

    print(download(options.name, options.root))


def _check(options: argparse.Namespace) -> None:
    from rich.console import Console

    from ser.check import check_corpora, corpora_at, render

    reports = check_corpora(corpora_at(options.root), options.cache / "manifests")
    for report in reports:
        Console().print(render(report))


def _plot(options: argparse.Namespace) -> None:
    from ser.gallery import draw_gallery

    for path in draw_gallery(options.root, options.out, options.cache):
        print(path)


def _find(named: str) -> "RunFolder":
    from ser.run_folder import find_run

    return find_run(named, Path("mlruns") / "runs", finished=True)


def _find_with_config(named: str) -> "RunFolder":
    folder = _find(named)
    folder.check_config()
    return folder


def _predict(options: argparse.Namespace) -> None:
    from ser.corpora.files import recordings
    from ser.recognizer import load_recognizer

    lone = Path(options.run).suffix == ".ckpt"
    checkpoint = Path(options.run) if lone else _find(options.run).best
    recognizer = load_recognizer(checkpoint, options.encoder_path)
    if options.below is not None:
        recognizer = recognizer.abstaining(options.below)
    if recognizer.synthetic:
        sys.stderr.write(SYNTHETIC)
    mistakes: list[SerError] = []

    def note(error: SerError) -> None:
        mistakes.append(error)
        _tell(error)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    found = list(recordings(options.files, note, sys.stderr.write))
    for answer in recognizer.answers(found, note, options.utterances):
        _print_answer(recognizer, answer, options)
    if mistakes:
        sys.exit(MISTAKE)


def _print_answer(recognizer: "Recognizer", answer: "Answer", options: argparse.Namespace) -> None:
    """Print it at once: whatever ends the program later does not lose it."""
    from ser.corpora.files import on_one_line

    table = recognizer.table([answer])
    if options.abstain or options.below is not None:
        table = table.assign(uncertain=recognizer.uncertain(table))
    if options.json:
        print(table.to_json(orient="records", lines=True), end="", flush=True)
        return
    (row,) = table.to_dict("records")
    said = "uncertain" if row.get("uncertain") else row["prediction"]
    when = f"{row['begin_s']:7.2f} to {row['end_s']:7.2f} s  " if "begin_s" in row else ""
    print(f"{said:<12}{row['confidence']:.2f}  {when}{on_one_line(row['path'])}", flush=True)


def _wrong(options: argparse.Namespace) -> None:
    from rich.console import Console

    from ser.report import render_wrong

    folder = _find(options.run)
    render_wrong(folder.read_predictions(), options.limit, folder.path.name, Console())


def _explain(options: argparse.Namespace) -> None:
    from ser.explain import explain, explain_clip

    if options.clip is not None and len(options.runs) > 1:
        raise SerError("--clip asks one run about a recording: give one RUN.")
    folders = [_find_with_config(named) for named in options.runs]
    if options.clip is None:
        paths = explain(folders, limit=options.limit, encoder_path=options.encoder_path)
    else:
        paths = explain_clip(folders[0], options.clip, encoder_path=options.encoder_path)
    for path in paths:
        print(path)


def _card(options: argparse.Namespace) -> None:
    from ser.explain import rewrite_card

    print(rewrite_card(_find_with_config(options.run), encoder_path=options.encoder_path))


if __name__ == "__main__":
    main()
