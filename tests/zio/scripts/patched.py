"""A process in which the monkey-patcher named by the first argument has replaced the modules named by the others.

As far as zio can see.
"""

import sys
import types

kind, *patched = sys.argv[1:]
if kind == "gevent":
    module = types.ModuleType("gevent.monkey")
    module.is_module_patched = lambda name: name in patched  # type: ignore[attr-defined]
else:
    module = types.ModuleType("eventlet.patcher")
    module.is_monkey_patched = lambda name: name in patched  # type: ignore[attr-defined]
sys.modules[module.__name__] = module

import zio  # noqa: E402

for use in (lambda: zio.run(int), zio.background, lambda: zio.Event().wait(), lambda: zio.spawn(int)):
    try:
        use()
    except RuntimeError as error:
        if kind not in str(error):
            raise
        print(error)
    else:
        raise SystemExit("no error")
