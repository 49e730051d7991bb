"""Two calls in threads of their own."""

import multiprocessing
import threading
from collections.abc import Iterator

import pytest
import torch

from ser.models.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_calls_run_at_once_each_with_its_share_of_the_threads() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def call(number: int) -> tuple[int, int, bool]:
        meeting.wait()  # would never end one after the other
        return number, torch.get_num_threads(), torch.is_grad_enabled()

    assert side_by_side(call, [7, 8]) == [(7, 2, False), (8, 2, False)]
    assert torch.get_num_threads() == 4


def test_one_thread_calls_one_after_the_other() -> None:
    torch.set_num_threads(1)
    assert side_by_side(lambda _: threading.current_thread(), [1, 2]) == 2 * [
        threading.current_thread()
    ]


def test_an_error_comes_through() -> None:
    def call(number: int) -> int:
        if number:
            raise ValueError("of the second")
        return number

    with pytest.raises(ValueError, match="of the second"):
        side_by_side(call, [0, 1])
    assert side_by_side(str, [0, 1]) == ["0", "1"]  # the threads live on


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    side_by_side(str, [0, 1])
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(side_by_side(str, [0, 1])), daemon=True)
    child.start()
    assert receiver.poll(60)
    assert receiver.recv() == ["0", "1"]
    child.join(60)
