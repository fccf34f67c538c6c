"""What a chat template may use up: it comes with a checkpoint, so it is not trusted with time or memory.

Every turn of a loop, call and filter is a step, and so are 256 characters of what an operation makes; a
template has `MOST_STEPS` of them. What an operator, a method or a filter would make is estimated before it is
made, and nothing is larger than `MOST_SIZE` characters. Counted, not timed: the same conversation is refused
everywhere or nowhere. Not covered: comparing values that hold themselves many times.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_SIZE = 1 << 24
MOST_STEPS = 500_000
_MOST_WIDTH = 1000
"""Of what filters pad and indent with."""
_MOST_BITS = 4096
_SIZE_OF_STEP = 256
_SIZE_OF_ENTRY = 16
_WIDE = frozenset({"batch", "center", "indent", "slice", "tojson", "wordwrap"})
_WRITES = frozenset({"format", "join", "pprint", "string", "tojson", "urlencode", "xmlattr"})
_GROWS = frozenset({"encode", "expandtabs", "translate"})
"""Methods that templates go without; bytes have the same ones."""
_left: ContextVar[list[int]] = ContextVar("steps left")


@contextmanager
def limited() -> Iterator[None]:
    """Templates rendered within have a budget together."""
    token = _left.set([MOST_STEPS])
    try:
        yield
    finally:
        _left.reset(token)


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with limits; to be rendered within `limited`."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        # Nothing is computed before there is a budget: an optimiser would, and finalize without a context.
        super().__init__(optimized=False, finalize=_finalized, **options)
        del self.globals["lipsum"]
        self.limit_filters()

    def limit_filters(self) -> None:
        """Bound every filter there is; once more after others were put in."""
        for name, function in self.filters.items():
            if not hasattr(function, "is_limited"):
                self.filters[name] = _limited_filter(name, function)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.body.insert(0, nodes.ExprStmt(_call("step", [], loop.lineno), lineno=loop.lineno))
        return _Joins().visit(tree)  # type: ignore[no-any-return]

    def step(self) -> None:
        """A turn of a loop."""
        _spend(0)

    def joined(self, *parts: Any) -> str:
        """What `~` makes."""
        return "".join(map(str, _sized(parts)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _spend(_size_of_result(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _GROWS and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            _spend(_size_of_format(value.__self__, [*args, *kwargs.values()]))
            return wrapped(*args, **kwargs)

        return bounded

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if name == "join" and args and not isinstance(args[0], str):
            args = (list(args[0]), *args[1:])  # the parts are looked at twice
        if isinstance(owner, str):
            _spend(_size_of_text(name, owner, [*args, *kwargs.values()]))
        else:
            _spend(0)
        return super().call(__context, __obj, *args, **kwargs)


class _Joins(jinja2.visitor.NodeTransformer):
    """`a ~ b` as a call."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("joined", node.nodes, node.lineno)


def _call(name: str, args: list[nodes.Expr], line: int) -> nodes.Call:
    call = nodes.Call(nodes.EnvironmentAttribute(name), args, [], None, None)
    call.set_lineno(line)
    return call


@jinja2.pass_context
def _finalized(_context: Context, value: Any) -> Any:
    return _sized(value)


def _limited_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    num_given = int(any(hasattr(function, mark) for mark in ("jinja_pass_arg",)))

    @functools.wraps(function)
    def limited_filter(*args: Any, **kwargs: Any) -> Any:
        value, *others = args[num_given:] or (None,)
        others += kwargs.values()
        if name in _WIDE and any(isinstance(each, int) and each > _MOST_WIDTH for each in others):
            raise _too_much(f"{name} by more than {_MOST_WIDTH}")
        if name in ("join", "sum") and not isinstance(value, str | Undefined):
            value = list(value)  # its parts are looked at twice
            args = (*args[:num_given], value, *args[num_given + 1 :])
        if name in _WRITES or name == "sum":
            _sized((value, others))
        _spend(_size_of_text(name, value, others) if isinstance(value, str) else 0)
        return function(*args, **kwargs)

    limited_filter.is_limited = True  # type: ignore[attr-defined]
    return limited_filter


def _spend(size: float) -> None:
    """Take a step and what a result of this size costs from the budget."""
    if size > MOST_SIZE:
        raise _too_much(f"more than {MOST_SIZE} characters at once")
    left = _left.get()
    left[0] -= 1 + int(size) // _SIZE_OF_STEP
    if left[0] < 0:
        raise _too_much(f"more than {MOST_STEPS} steps")


def _too_much(what: str) -> jinja2.TemplateError:
    return jinja2.TemplateRuntimeError(f"it takes {what}")


def _sized(value: Any) -> Any:
    """The value, if its text is within the limits."""
    size, todo = 0, [value]
    while todo:
        each = todo.pop()
        if isinstance(each, str | bytes):
            size += len(each)
        elif isinstance(each, dict):
            todo += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            todo += each
        size += _SIZE_OF_ENTRY
        if size > MOST_SIZE:
            raise _too_much(f"more than {MOST_SIZE} characters at once")
    _spend(size)
    return value


def _length(value: Any) -> int:
    """Characters, or what entries count for."""
    if isinstance(value, list | tuple | dict):
        return len(value) * _SIZE_OF_ENTRY
    return len(value) if isinstance(value, str | bytes) else 1


def _size_of_result(operator: str, left: Any, right: Any) -> float:
    """Characters of what an operator makes, at most."""
    if operator == "%" and isinstance(left, str):
        return _size_of_format(left, [right])
    if isinstance(left, int) and isinstance(right, int):
        bits, more = left.bit_length(), right.bit_length()
        made = bits * max(0, right) if operator == "**" else bits + more
        return 1 if made <= _MOST_BITS or operator in "+%" else MOST_SIZE + 1
    if operator == "*":
        times = max([0, *(each for each in (left, right) if isinstance(each, int))])
        return float(max(_length(left), _length(right))) * max(1, times)
    return _length(left) + _length(right)


def _size_of_text(name: str, text: str, args: list[Any]) -> float:
    """Characters of what a method or filter of this name makes of a text, at most."""
    if name == "replace" and len(args) > 1:
        old, new = args[0], args[1]
        times = text.count(old) if isinstance(old, str) else len(text) + 1
        return len(text) + float(times) * _length(new)
    if name == "join" and args:
        parts = list(args[0]) if isinstance(args[0], list | tuple) else []
        _sized(parts)
        return float(len(parts)) * len(text)
    if name == "format":
        return _size_of_format(text, args)
    if name == "indent":
        return len(text) + float(text.count("\n") + 1) * _widest(args)
    return len(text) + _widest(args)


def _size_of_format(text: str, args: list[Any]) -> float:
    widths = [float(digits) for digits in re.findall(r"\d+", text)]
    _sized(args)
    fields = text.count("%") + text.count("{")
    return len(text) + fields * max([_widest(_leaves(args)), *widths])


def _leaves(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for each in values:
        if isinstance(each, list | tuple):
            found += _leaves(each)
        elif isinstance(each, dict):
            found += _leaves(each.values())
        else:
            found.append(each)
    return found


def _widest(args: Iterable[Any]) -> float:
    """The longest text among them, or largest number where it is a width."""
    sizes = [abs(each) if isinstance(each, int) else _length(each) for each in args]
    return float(max([1, *sizes])) if not any(isinstance(each, Undefined) for each in args) else 1.0
