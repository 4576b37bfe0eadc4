"""Find instances: build a model by name, and turn frames into detections fast."""

import os

# Let waiting OpenMP threads sleep: spinning ones starve decoding and encoding, and beside another
# busy process they made a frame 2.3 times slower. OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Let large blocks lie on huge pages (Linux): a page fault per 2 MB instead of one per 4 kB.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
