"""A process in which the monkey-patcher named by the argument has done its work, as far as zio can see."""

import sys
import types

kind = sys.argv[1]
if kind == "gevent":
    module = types.ModuleType("gevent.monkey")
    module.is_module_patched = lambda name: name in ("threading", "select")  # type: ignore[attr-defined]
else:
    module = types.ModuleType("eventlet.patcher")
    module.is_monkey_patched = lambda name: name in ("thread", "select")  # type: ignore[attr-defined]
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
