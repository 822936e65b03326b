"""The options of a job, from the JSON of a request. Pure."""

from ..refusal import bad_field

# 24 h of this one, and no other one: see ``IJobs``.
PLANNED = "dry_run"


def options_of(kind, body):
    """What the job is started with: ``kind``'s own options, each as the request gives it or as it is without.

    Strict, since what is started may delete: ``false`` is no other value than JSON's, and a name that is misspelt is
    refused. Raises Refusal (400) which names the field.
    """
    for name in body:
        if name not in kind.options:
            known = ", ".join(sorted(kind.options)) or "none"
            raise bad_field(name, f"is no option of {kind.name}; it has {known}")
    options = dict(kind.options)
    for name, value in body.items():
        options[name] = _checked(name, value, kind.options[name])
    if kind.name == "gc" and options.get(PLANNED) is False and not options.get("plan"):
        raise bad_field("plan", "is missing: name the plan that is to be executed, not older than 24 hours")
    return options


def _checked(name, value, default):
    """``value``, where it is of the same type as the default; text where that is None."""
    if isinstance(default, bool) or name == PLANNED:
        if not isinstance(value, bool):
            raise bad_field(name, "is neither true nor false")
    elif isinstance(default, int | float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise bad_field(name, "is no number")
        if name == "allow" and not 0 <= value <= 1:
            raise bad_field(name, "is no share from 0 to 1")
    elif not isinstance(value, str) and value != default:
        raise bad_field(name, "is no text")
    return value
