import io
import sys

from jaxnn.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    with progress("fit", 100) as show:
        show(50, {"loss": 0.25})
        show(100, {"loss": 0.125})
    return stream.getvalue()


def test_a_terminal_sees_steps_and_the_last_metrics(monkeypatch):
    text = shown(monkeypatch, Terminal())
    assert "fit" in text
    assert "100/100" in text
    assert "loss 0.125" in text


def test_a_pipe_sees_nothing(monkeypatch):
    assert shown(monkeypatch, io.StringIO()) == ""
