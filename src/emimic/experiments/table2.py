"""The paper's Table 2, and one change at a time, as cells of a grid: a frozen encoder, dropout, padding, losses, cuts.

Of section 6.2 these are zero-padding, correlation as a loss and the run on audio alone with a frozen encoder; its
experiments with vision are none of them.
Table 2's best row, .386, is Table 1's run without dropout in the LSTM (.389 with it), so the rows here have none unless
asked otherwise, and the full model is that row. Each other row differs from it in what its label says, nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from emimic.experiments.jobs import Cell
from emimic.experiments.results_table import Outcome, encoder_of
from emimic.experiments.run import Request, compare, sources

FULL: Final = "full"
BASE: Final[dict[str, Any]] = {"lstm_dropout": 0.0}
"""Goes under what the user sets."""

ENCODERS: Final = {
    # "W2V2-L [1]"; section 6.1 speaks of pre-training on "standard ASR tasks, such as those involving LibriSpeech", and
    # the released code has no such run: the large model fine-tuned on LibriSpeech's 960 hours is chosen here.
    "w2v2-l": "facebook/wav2vec2-large-960h",
    # "W2V2-L XLSR [9]": the paper of [9] released this one.
    "xlsr": "facebook/wav2vec2-large-xlsr-53",
}
"""The rows of Table 2 that have an encoder of their own; all others have the common one."""

GROUPS: Final = {
    "table2": "Table 2: encoder, global vector, regression head, LSTM, VAD head",
    "frozen": "Section 6.2 and Table 1: a frozen encoder",
    "dropout": "Table 1: dropout between the LSTM's layers",
    "padding": "Section 6.2: zero-padding without masks",
    "losses": "Section 6.2: losses",
    "cut": "Section 3.2: cut length",
}
LOSSES: Final[dict[str, tuple[str, dict[str, float]]]] = {
    "loss-ccc": ("1 - CCC", {"ccc": 1.0}),
    "loss-pearson": ("1 - Pearson (eq. 3)", {"pearson": 1.0}),
    "loss-mse-ccc": ("MSE + 0.1 (1 - CCC)", {"mse": 1.0, "ccc": 0.1}),
    "loss-mse-pearson": ("MSE + 0.1 (1 - Pearson)", {"mse": 1.0, "pearson": 0.1}),
}
CUTS: Final = (1.0, 3.0, 6.0, 20.0)


def _switches(
    *, gv: bool = False, head: bool = False, lstm: bool = False, vad: bool = False
) -> dict[str, Any]:
    return {"global_vector": gv, "regression_head": head, "lstm": lstm, "vad_head": vad}


def cells(encoders: dict[str, dict[str, Any]] | None = None) -> tuple[Cell, ...]:
    """Every row, the full model first; all tables have that one.

    encoders: settings of the encoder (`encoder` or `encoder_config`) for rows of ENCODERS, in place of those there.
    """
    own = {name: {"encoder": source} for name, source in ENCODERS.items()} | (encoders or {})
    gv = _switches(gv=True)
    table2 = [
        Cell("w2v2-l", "W2V2-L; global vector", ("table2",), own["w2v2-l"] | gv, 0.017, note=_named("w2v2-l", own)),
        Cell("xlsr", "XLSR; global vector", ("table2",), own["xlsr"] | gv, 0.021, note=_named("xlsr", own)),
        Cell("gv", "global vector", ("table2",), gv, 0.342),
        Cell("gv-head", "global vector, head", ("table2",), _switches(gv=True, head=True), 0.356),
        Cell("head-lstm", "head, LSTM", ("table2",), _switches(head=True, lstm=True), 0.375),
        Cell("gv-head-lstm", "global vector, head, LSTM", ("table2",), _switches(gv=True, head=True, lstm=True), 0.377),
        Cell("head-lstm-vad", "head, LSTM, VAD head", ("table2",), _switches(head=True, lstm=True, vad=True), 0.375),
    ]  # fmt: skip
    return (
        Cell(
            FULL,
            "full model",
            tuple(GROUPS),
            _switches(gv=True, head=True, lstm=True, vad=True),
            published=0.386,
            published_test=0.461,
        ),
        *table2,
        Cell("frozen", "encoder frozen", ("frozen",), {"freeze_encoder": True}, 0.262),
        Cell("dropout", "LSTM dropout 0.1", ("dropout",), {"lstm_dropout": 0.1}, 0.389, 0.465),
        Cell(
            "zeros",
            "zero-padded to the cut, no mask",
            ("padding",),
            {"padding": "zeros"},
            note="The paper has no figure for zero-padding with audio; with video it often saw about -.1.",
        ),
        Cell(
            "zeros-batch",
            "zero-padded to the batch's longest, no mask",
            ("padding",),
            {"padding": "zeros-batch"},
            note="Padding was 34 % of the paper's batches; which clips shared one, and to what length, it doesn't say.",
        ),
        *(Cell(name, label, ("losses",), {"loss": loss}) for name, (label, loss) in LOSSES.items()),
        *(Cell(f"cut-{s:g}", f"cut at {s:g} s", ("cut",), {"max_seconds": s}) for s in CUTS),
    )


def _named(name: str, own: Mapping[str, dict[str, Any]]) -> str:
    """What stands in a row that has its own encoder."""
    found = encoder_of(own[name])
    instead = "" if found == ENCODERS[name] else f", in place of {ENCODERS[name]}"
    return f"{'XLSR' if name == 'xlsr' else 'W2V2-L'}: {found}{instead}."


def ablate(request: Request, encoders: Sequence[str] = (), tell: Callable[[str], None] = print) -> Outcome:
    """Run the rows asked for, and write what they and those that were run before came to.

    encoders: `ROW=SOURCE` for rows of ENCODERS: a folder, a name on the hub, or a file of an encoder's configuration,
    which is then trained from scratch. Raises EmimicError, and Stopped as `grid.run`.
    """
    return compare(request, cells(sources(encoders, ENCODERS)), FULL, GROUPS, BASE, tell)
