"""Sound as a picture: patches of a log-mel spectrogram."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from neurofmx.sequence import TokenizedSequence
from neurofmx.signal.spectra import log_mel
from neurofmx.tokenizers.image import ImageTokenizer


class AudioTokenizer(ImageTokenizer):
    """Sound → tokens: (2, 16000) at 16 kHz → (2, 25, 768) with its defaults.

    The loader gives frames of a spectrogram, time × mel band; `forward` makes them of sound, at
    ultrasonic rates too (`rate`: 250e3, `high`: 125e3).

    Source: patches of a log-mel spectrogram, Gong et al. 2021 (AST), arXiv:2104.01778.
    """

    class Config(ImageTokenizer.Config):
        """Settings.

        Attributes:
            dt: From one frame to the next (s).
            grid: How many mel bands.
            tile: Bands in a patch.
            rate: Of sound that `forward` is given (Hz).
            span: Length of a frame (s).
            low, high: Edges of the lowest and the highest band (Hz); None is half the rate.
        """

        kind: Literal["audio"] = "audio"
        patch: PositiveInt = 4
        dt: PositiveFloat = 0.01
        grid: list[PositiveInt] = [64]
        tile: list[PositiveInt] = [16]
        rate: PositiveFloat = 16e3
        span: PositiveFloat = 0.025
        low: float = 0.0
        high: PositiveFloat | None = None

    config: Config

    def forward(  # type: ignore[override]  # sound is no frames
        self, audio: Float[Tensor, "batch time"], t0: Float[Tensor, " batch"] | None = None
    ) -> TokenizedSequence:
        """Tokens of sound that did not come through the loader.

        Frames that reach back before its start are not seen.

        Args:
            audio: Sound pressure, or what stands for it.
            t0: Of its first sample (s).
        """
        c = self.config
        sounds = audio.detach().float().cpu().numpy()
        mels, seen = zip(
            *(log_mel(x[:, None], c.rate, c.grid[0], c.dt, c.span, c.low, c.high) for x in sounds),
            strict=True,
        )
        frames = torch.from_numpy(np.stack(mels)).to(audio)
        mask = torch.from_numpy(np.stack(seen)).to(audio.device)
        return super().forward(frames, mask=mask, t0=t0)
