"""Settings of a training that fit it to a machine; apart from rounding they change no result."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

AUTO_SECONDS: Final = 60.0
"""`batch_seconds: auto` where no GPU's memory sets it."""


class MachineSettings(BaseModel):
    """Precision, memory, threads, and what is written during a training."""

    precision: Literal["32-true", "bf16-mixed"] = Field(
        "32-true", description="bf16-mixed halves a GPU's memory"
    )
    gradient_checkpointing: bool = Field(False, description="less memory, about a tenth more time")
    batch_seconds: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        60.0,
        description="maximum audio of one forward pass, in seconds after padding; 8 times as much of cached features; "
        "auto: as much as fits in a GPU's memory, else 60",
    )
    compile: bool = Field(
        False, description="compile the encoder's layers (torch.compile), which needs a C++ compiler"
    )
    accelerator: str = Field("auto", description="auto, cpu, cuda, mps (Lightning Fabric)")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; null: torch's choice")
    workers: int = Field(2, ge=1, description="threads that decode ahead")
    checkpoint_steps: int = Field(
        200, ge=1, description="optimizer steps between two writings of last.safetensors"
    )
    features: str | None = Field(
        None,
        description="folder of cached features of a frozen encoder of voices or images; null: in the run folder",
    )
    feature_dtype: Literal["float16", "float32"] = Field("float16", description="type of cached features")
