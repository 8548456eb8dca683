"""The module for DISCOVER, run by hcai-discover-utils itself: `python tests/tools/discover_check.py FOLDER RECORDING`.

Not part of the tests, as the package needs a database driver and a copy of ffmpeg. It loads the .trainer and the
script as the server does, predicts the recording, saves annotations and the stream, and reads them back.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import soundfile
from discover_utils.data.handler.file_handler import FileHandler
from discover_utils.data.provider.data_manager import DatasetManager
from discover_utils.data.stream import Audio
from discover_utils.utils.ssi_xml_utils import Trainer


def main(folder: Path, recording: Path) -> None:
    """Run the module."""
    trainer = Trainer()
    trainer.load_from_file(next(folder.glob("*.trainer")))
    assert not trainer.meta_is_iterable
    assert trainer.meta_is_processable
    spec = importlib.util.spec_from_file_location("module", folder / trainer.model_script_path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    outputs = [io for io in trainer.meta_io if io.io_type == "output"]
    kinds = {io.io_id: io.io_data.split(":")[0] for io in outputs}
    description = [
        {
            "id": io.io_id, "type": "output",
            "src": f"file:{io.io_data.lower()}" if kinds[io.io_id] == "annotation" else "file:stream:SSIStream:feature",
            "uri": str(folder / f"{io.io_id}.{kinds[io.io_id]}"),
        }
        for io in outputs
    ]  # fmt: skip
    manager = DatasetManager(data_description=description)
    manager.load()
    (session,) = (one["manager"] for one in manager.sessions.values())
    wave, rate = soundfile.read(recording)
    session.input_data["audio"] = Audio(
        data=wave, sample_rate=rate, duration=int(1000 * len(wave) / rate), name="audio", ext=".wav",
        sample_shape=(1, None, 1), num_samples=len(wave), dtype=np.dtype(np.float32),
    )  # fmt: skip
    processor = getattr(script, trainer.model_create)(
        model_io=trainer.meta_io, opts={"channel": ""}, trainer=trainer
    )
    values = processor.process_data(manager)
    session.output_data_templates = processor.to_output(values)
    manager.save()
    for io in outputs:
        found = FileHandler().load(folder / f"{io.io_id}.{kinds[io.io_id]}")
        expected = values[io.io_id]
        read = found.data if io.io_id == "emimic" else found.data["score"]
        clipped = expected if io.io_id == "emimic" else expected.clip(0, 1)
        # Annotations are saved with two decimals.
        np.testing.assert_allclose(read, clipped, atol=1e-6 if io.io_id == "emimic" else 0.0051)
        print(io.io_id, found.data.shape, float(np.nanmean(read)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
