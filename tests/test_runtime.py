import pytest
import torch

from echo_cli.errors import MissingError, UsageError
from echo_cli.runtime import Later, Runtime, upload


def test_a_cpu_computes_in_float32_unless_asked() -> None:
    assert Runtime.choose("cpu").dtype is torch.float32
    assert Runtime.choose("cpu", "bfloat16").dtype is torch.bfloat16


def test_a_dtype_that_would_kill_the_process_is_refused_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(MissingError, match="dies when this machine's CPU computes in bfloat16") as caught:
        Runtime.choose("cpu", "bfloat16")
    assert "--dtype float32" in caught.value.hint


@pytest.mark.parametrize(("device", "dtype", "error", "said"), [
    ("toaster", "auto", UsageError, "no device is called 'toaster'"),
    ("meta", "auto", UsageError, "not supported"),
    ("cpu", "float8", UsageError, "no dtype is called 'float8'"),
    ("cuda:99", "auto", MissingError, "device 'cuda:99' is not here"),
    ("cpu,cpu", "auto", UsageError, "'cpu,cpu' is not a pair of GPUs"),
])
def test_devices_and_dtypes_that_cannot_be(device: str, dtype: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        Runtime.choose(device, dtype)
    assert caught.value.hint


def test_two_gpus_are_one_that_generates_and_one_that_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    pair, alone = Runtime.choose("cuda:2,cuda:0"), Runtime.choose("cuda:2")
    assert (pair.device, pair.decoding) == (torch.device("cuda:2"), torch.device("cuda:0"))
    assert alone.decoding == alone.device
    for wrong in ("cuda:1,cuda:1", "cuda:0,cpu", "cuda:0,cuda:1,cuda:2"):
        with pytest.raises(UsageError, match="not a pair of GPUs"):
            Runtime.choose(wrong)
    with pytest.raises(MissingError, match="'cuda:3' is not here"):
        Runtime.choose("cuda:0,cuda:3")


def test_a_value_read_later_is_the_value_of_now() -> None:
    tensor = torch.tensor([1.0, 2.0])
    later = Later(tensor)
    tensor.zero_()
    assert later.read() == [1.0, 2.0]


def test_upload() -> None:
    assert upload([3, 1], torch.device("cpu")).tolist() == [3, 1]
