"""Rows of the paper's Table 2, and of one change at a time: a frozen encoder, dropout, padding, losses, cuts.

Of section 6.2, zero-padding, correlation as a loss and the frozen encoder on audio alone are here, and its experiments
with vision in vision_rows. Sums of MSE and a correlation, and other cuts than 12 s, are not the paper's. Table 2's
best row, .386, is Table 1's run without dropout in the LSTM (.389 with it). So the full model has no dropout by
default, and each other row differs from it only as its label says.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from emimic.experiments import vision_rows
from emimic.experiments.jobs import Row
from emimic.experiments.results_table import Outcome, name_encoder
from emimic.experiments.run import Request, compare, parse_encoders

FULL: Final = "full"
DEFAULTS: Final[dict[str, Any]] = {"lstm_dropout": 0.0}
"""Settings of all rows that the user may override."""

ENCODERS: Final = {
    # "W2V2-L [1]"; section 6.1 speaks of pre-training on "standard ASR tasks, such as those involving LibriSpeech", and
    # the released code has no such run: the large model fine-tuned on LibriSpeech's 960 hours is chosen here.
    "w2v2-l": "facebook/wav2vec2-large-960h",
    # "W2V2-L XLSR [9]": the paper of [9] released this one.
    "xlsr": "facebook/wav2vec2-large-xlsr-53",
}
"""The rows of Table 2 with their own encoder; all others have the common one."""

GROUPS: Final = {
    "table2": "Table 2: encoder, global vector, regression head, LSTM, VAD head",
    "frozen": "Section 6.2 and Table 1: a frozen encoder",
    "dropout": "Table 1: dropout between the LSTM's layers",
    "padding": "Section 6.2: zero-padding without masks",
    "losses": "Sections 4 and 6.2: correlation as a loss, alone and (not in the paper) beside MSE",
    "cut": "Cut length, 12 s in the paper (section 3.2); it trained with no other",
    "vision": vision_rows.TITLE,
}
LOSSES: Final[dict[str, tuple[str, dict[str, float]]]] = {
    "loss-ccc": ("1 - CCC", {"ccc": 1.0}),
    "loss-pearson": ("1 - Pearson (eq. 3)", {"pearson": 1.0}),
    "loss-mse-ccc": ("MSE + 0.1 (1 - CCC)", {"mse": 1.0, "ccc": 0.1}),
    "loss-mse-pearson": ("MSE + 0.1 (1 - Pearson)", {"mse": 1.0, "pearson": 0.1}),
}
CUTS: Final = (1.0, 3.0, 6.0, 20.0)


def _switch(*, gv: bool = False, head: bool = False, lstm: bool = False, vad: bool = False) -> dict[str, Any]:
    return {"global_vector": gv, "regression_head": head, "lstm": lstm, "vad_head": vad}


def list_rows(
    encoders: dict[str, dict[str, Any]] | None = None, vision: Mapping[str, Any] | None = None
) -> tuple[Row, ...]:
    """Return every row, the full model first; that one is in all tables.

    Args:
        encoders: settings (`encoder` or `encoder_config`) for rows of ENCODERS, in place of those there.
        vision: the user's settings of the vision branch, without its encoder.
    """
    own = {name: (encoders or {}).get(name, {"encoder": source}) for name, source in ENCODERS.items()}
    gv = _switch(gv=True)
    table2 = [
        Row("w2v2-l", "W2V2-L; global vector", ("table2",), own["w2v2-l"] | gv, 0.017, note=_describe("w2v2-l", own)),
        Row("xlsr", "XLSR; global vector", ("table2",), own["xlsr"] | gv, 0.021, note=_describe("xlsr", own)),
        Row("gv", "global vector", ("table2",), gv, 0.342),
        Row("gv-head", "global vector, head", ("table2",), _switch(gv=True, head=True), 0.356),
        Row("head-lstm", "head, LSTM", ("table2",), _switch(head=True, lstm=True), 0.375),
        Row("gv-head-lstm", "global vector, head, LSTM", ("table2",), _switch(gv=True, head=True, lstm=True), 0.377),
        Row("head-lstm-vad", "head, LSTM, VAD head", ("table2",), _switch(head=True, lstm=True, vad=True), 0.375),
    ]  # fmt: skip
    return (
        Row(
            FULL,
            "full model",
            tuple(GROUPS),
            _switch(gv=True, head=True, lstm=True, vad=True),
            published=0.386,
            published_test=0.461,
        ),
        *table2,
        Row("frozen", "encoder frozen", ("frozen",), {"freeze_encoder": True}, 0.262),
        Row("dropout", "LSTM dropout 0.1", ("dropout",), {"lstm_dropout": 0.1}, 0.389, 0.465),
        Row(
            "zeros",
            "zero-padded to the cut, no mask",
            ("padding",),
            {"padding": "zeros"},
            note="The paper often saw about -.1 with zero-padded images or sound, and doesn't say with which model.",
        ),
        Row(
            "zeros-batch",
            "zero-padded to the batch's longest, no mask",
            ("padding",),
            {"padding": "zeros-batch"},
            note="Padding was 34 % of the paper's batches; which clips shared one, and to what length, it doesn't say.",
        ),
        *(Row(name, label, ("losses",), {"loss": loss}) for name, (label, loss) in LOSSES.items()),
        *(Row(f"cut-{s:g}", f"cut at {s:g} s", ("cut",), {"max_seconds": s}) for s in CUTS),
        *vision_rows.list_rows(("vision",), encoders or {}, vision or {}),
    )


def _describe(name: str, encoders: Mapping[str, dict[str, Any]]) -> str:
    """Return a note on the encoder of a row with its own."""
    encoder = name_encoder(encoders[name])
    instead = "" if encoder == ENCODERS[name] else f", in place of {ENCODERS[name]}"
    return f"{'XLSR' if name == 'xlsr' else 'W2V2-L'}: {encoder}{instead}."


def ablate(request: Request, encoders: Sequence[str] = (), log: Callable[[str], None] = print) -> Outcome:
    """Run the chosen rows, and write the tables of them and of all that have a score.

    Args:
        request: the options of the command.
        encoders: `ROW=SOURCE` for rows of ENCODERS: a folder, a name on the hub, or a file with an encoder's
            configuration, which is trained from scratch.
        log: is called with each message on the progress.

    Raises:
        EmimicError: if the request, the corpus or a run on disk can't be used.
        Stopped: on SIGTERM or Ctrl-C.
    """
    own = parse_encoders(encoders, (*ENCODERS, *vision_rows.ENCODERS))
    rows = list_rows(own, vision_rows.get_base(request.read_settings().vision))
    return compare(request, rows, FULL, GROUPS, DEFAULTS, log)
