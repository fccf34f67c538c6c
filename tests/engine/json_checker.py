"""Whether a value is what a JSON schema says: the part of the standard that the tests' schemas use."""

import re
from collections.abc import Callable
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def is_valid(value: Any, schema: dict[str, Any]) -> bool:
    """Keywords of objects, arrays, texts and numbers, enum, const, anyOf."""
    if "anyOf" in schema and not any(is_valid(value, each) for each in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    kind = schema.get("type")
    if kind is None:
        return True
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    checks: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
        "object": _object,
        "array": _array,
        "string": _string,
        "integer": _number,
        "number": _number,
    }
    return checks[kind](value, schema) if kind in checks else True


def _object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    properties = schema.get("properties", {})
    further = schema.get("additionalProperties", True)
    if not set(schema.get("required", ())) <= value.keys():
        return False
    for key, inner in value.items():
        rule = properties.get(key, further)
        if rule is False or (isinstance(rule, dict) and not is_valid(inner, rule)):
            return False
    return True


def _array(value: list[Any], schema: dict[str, Any]) -> bool:
    return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)) and all(
        is_valid(item, schema.get("items", {})) for item in value
    )


def _string(value: str, schema: dict[str, Any]) -> bool:
    return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)) and bool(
        re.search(schema.get("pattern", ""), value)
    )


def _number(value: float, schema: dict[str, Any]) -> bool:
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
