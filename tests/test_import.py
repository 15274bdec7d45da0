"""What `import scorefield` costs."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"matplotlib", "sklearn", "scipy", "PIL", "jsonargparse"}  # each is imported where it is used


def test_the_import_takes_no_heavy_library_along():
    command = "import json, sys, scorefield; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout))
