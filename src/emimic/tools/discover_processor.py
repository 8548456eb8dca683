"""emimic as a module of DISCOVER: six intensities, arousal, dominance and valence of a voice, every 0.2 s."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from discover_utils.data.annotation import ContinuousAnnotationScheme
from discover_utils.data.stream import SSIStream
from discover_utils.interfaces.server_module import Processor

import emimic
from emimic.output.formats.nova import make_scheme_names
from emimic.output.formats.nova_stream import make_rows

INPUT: Final = "audio"
STREAM: Final = "emimic"
OPTIONS: Final = {"hop": "0.2", "channel": "0"}


class Emimic(Processor):  # type: ignore[misc]
    """Predicts a session's recording over time.

    Options: `hop`, seconds between values; `channel`, the channel to predict, counted from 1, or 0 for the mean of all.
    """

    options: dict[str, str]
    session: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = OPTIONS | {name: text for name, text in self.options.items() if text != ""}
        folder = Path(__file__).with_name("model")
        self.predictor = emimic.load(folder) if folder.is_dir() else emimic.load()
        self.hop, self.session = float(self.options["hop"]), None

    def process_data(self, ds_manager: Any) -> dict[str, Any]:
        """Return the values (row,) of each dimension, and under `emimic` those of all: (row, dimension)."""
        self.session = self.get_session_manager(ds_manager)
        audio = self.session.input_data[INPUT]
        wave = np.asarray(audio.data, np.float32)
        channel = int(self.options["channel"])
        if wave.ndim > 1:
            wave = wave[:, channel - 1] if channel else wave.mean(axis=1)
        timeline = self.predictor.predict_timeline(
            wave, sample_rate=float(audio.meta_data.sample_rate), hop=self.hop
        )
        grid = timeline.to_steps()
        rows = make_rows(grid, self.hop)
        return {STREAM: rows, **dict(zip(make_scheme_names(grid.names), rows.T, strict=True))}

    def to_output(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the session's outputs with values: annotations from 0 to 1, confidence 0 in silence, and a stream."""
        outputs: dict[str, Any] = self.session.output_data_templates
        for name, output in outputs.items():
            if name == STREAM:
                meta = output.meta_data
                labels = [
                    {"id": row, "name": key} for row, key in enumerate(key for key in data if key != STREAM)
                ]
                outputs[name] = SSIStream(
                    data=data[name], sample_rate=1 / self.hop, dim_labels=labels, media_type="feature",
                    role=meta.role, dataset=meta.dataset, name=meta.name, session=meta.session,
                )  # fmt: skip
                continue
            output.annotation_scheme = ContinuousAnnotationScheme(
                name=name, sample_rate=1 / self.hop, min_val=0, max_val=1
            )
            values = np.empty(len(data[name]), output.annotation_scheme.label_dtype)
            values["score"] = data[name].clip(0, 1)
            values["conf"] = np.isfinite(data[name])
            output.data = values
        return outputs
