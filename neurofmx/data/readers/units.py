"""Units as files write them."""

import numpy as np

# Unit as files write it → SI unit and factor. Units that are not here are kept as written.
SI: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("volts", "volt", "v"), ("V", 1.0)),
    **dict.fromkeys(("millivolts", "mv"), ("V", 1e-3)),
    **dict.fromkeys(("microvolts", "uv", "µv", "μv"), ("V", 1e-6)),
    **dict.fromkeys(("amperes", "ampere", "a"), ("A", 1.0)),
    **dict.fromkeys(("picoamperes", "picoampere"), ("A", 1e-12)),
    **dict.fromkeys(("meters", "metres", "meter", "m"), ("m", 1.0)),
    **dict.fromkeys(("centimeters", "cm"), ("m", 1e-2)),
    **dict.fromkeys(("millimeters", "mm"), ("m", 1e-3)),
    **dict.fromkeys(("m/s", "meters/second", "meters/s"), ("m/s", 1.0)),
    **dict.fromkeys(("cm/s", "centimeters/second"), ("m/s", 1e-2)),
    **dict.fromkeys(("mm/s", "millimeters/second"), ("m/s", 1e-3)),
    **dict.fromkeys(("radians", "rad"), ("rad", 1.0)),
    **dict.fromkeys(("degrees", "deg"), ("rad", np.pi / 180)),
    **dict.fromkeys(("seconds", "second", "s"), ("s", 1.0)),
    **dict.fromkeys(("counts", "count", "spikes"), ("count", 1.0)),
    **dict.fromkeys(("df/f", "dff", "delta f/f", "δf/f", "1"), ("1", 1.0)),
    **dict.fromkeys(("percent", "%"), ("1", 1e-2)),
}
