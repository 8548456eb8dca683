"""Rows of section 6.2's experiments with vision, and of Table 1's "Ours" with vision.

The paper names its image encoders by family only, and its face models (LibreFace, EfficientNet of EmotiEffLib) are
published as pickles or as ONNX, which can't be trained here. So each row's note says what stands in for what, and
`--encoder ROW=SOURCE` replaces it.
"""

from collections.abc import Mapping
from typing import Any, Final

from emimic.experiments.jobs import Row

ENCODERS: Final = {
    "vision-convnext": "facebook/convnext-tiny-224",
    "vision-dinov2": "facebook/dinov2-small",
    "vision-expression": "trpakov/vit-face-expression",
}
"""Rows with an image encoder of their own, and its name on the hub; the other rows have one of these."""

TITLE: Final = "Section 6.2 and Table 1: vision (frozen, and with the corpus's crops: not in the paper)"

EXPRESSION_NOTE: Final = (
    "Expression recognition: {encoder} stands in for LibreFace and EfficientNet (EmotiEffLib), whose weights are "
    "published as pickles or ONNX, which stay frozen (emimic baselines, face-descriptors)."
)


def list_rows(
    groups: tuple[str, ...], encoders: Mapping[str, dict[str, Any]], base: Mapping[str, Any]
) -> tuple[Row, ...]:
    """Return the rows with vision.

    Args:
        groups: the tables that they are part of.
        encoders: `encoder` or `encoder_config` of rows of ENCODERS, in place of those there.
        base: the user's settings of the vision branch, of all rows, without an encoder.
    """
    own = {name: encoders.get(name, {"encoder": source}) for name, source in ENCODERS.items()}
    convnext, expression = own["vision-convnext"], own["vision-expression"]

    def make(
        name: str, label: str, vision: Mapping[str, Any], published: float | None = None, *,
        note: str = "", unsure: str = "", audio: bool = False,
    ) -> Row:  # fmt: skip
        settings = {"audio": audio, "vision": {**base, **vision}}
        return Row(name, label, groups, settings, published, note=note, unsure=unsure)

    generic = (
        f"Generic image encoders: {_get_name(convnext)} and {_get_name(own['vision-dinov2'])}; the paper names "
        "ConvNeXt and DINOv2 without their sizes, and one figure for both."
    )
    faces = (
        "Faces by BlazeFace at a constant rate, 256 px; the paper changed rate, size and alignment in turn, without "
        "figures: no noticeable change."
    )
    return (
        make(
            "vision-zeros", "ConvNeXt, black frames up to the cut, no mask", {**convnext, "padding": "zeros"}, -0.1,
            note="Black frames: the paper's -.1 is of zero-padded images or sound, not of this encoder alone.",
            unsure="about",
        ),
        make("vision-convnext", "ConvNeXt, fine-tuned", convnext, -0.01, note=generic, unsure="about"),
        make("vision-dinov2", "DINOv2, fine-tuned", own["vision-dinov2"], -0.01, note=generic, unsure="about"),
        make("vision-frozen", "ConvNeXt, frozen", {**convnext, "freeze": True}),
        make("vision-corpus", "ConvNeXt, the corpus's own crops", {**convnext, "frames": "face_images"}),
        make("vision-160", "ConvNeXt, crops of 160 px", {**convnext, "size": 160}, note=faces),
        make("vision-aligned", "ConvNeXt, faces aligned by the eyes", {**convnext, "align": True}, note=faces),
        *list_own_rows(groups, expression, base),
    )  # fmt: skip


def list_own_rows(
    groups: tuple[str, ...], expression: Mapping[str, Any], base: Mapping[str, Any], prefix: str = ""
) -> tuple[Row, Row]:
    """Return Table 1's two rows with vision: alone, and jointly fine-tuned with the voice and its V/A/D.

    Args:
        groups: the tables that they are part of.
        expression: `encoder` or `encoder_config` of the expression-recognition encoder.
        base: the user's settings of the vision branch.
        prefix: of the rows' names.
    """
    vision = {**base, **expression}
    note = EXPRESSION_NOTE.format(encoder=_get_name(expression))
    both = {
        "audio": True, "vision": vision, "global_vector": True, "regression_head": True, "lstm": True, "vad_head": True,
    }  # fmt: skip
    alone = {"audio": False, "vision": vision}
    whose = "the paper's, " if prefix else ""
    return (
        Row(f"{prefix}vision-expression", f"{whose}vision, expression encoder", groups, alone, 0.013, note=note),
        Row(f"{prefix}vision-audio", f"{whose}vision and voice, fine-tuned jointly", groups, both, 0.198, note=note),
    )  # fmt: skip


def get_base(vision: Any) -> dict[str, Any]:
    """Return the user's settings of the vision branch without its encoder, which each row has itself."""
    return (
        {} if vision is None else vision.model_dump(exclude_unset=True, exclude={"encoder", "encoder_config"})
    )


def _get_name(encoder: Mapping[str, Any]) -> str:
    source = encoder.get("encoder")
    return (
        str(source) if source else f"a {encoder['encoder_config'].get('model_type', 'nameless')} from scratch"
    )
