#!/usr/bin/env python3
"""Checks config/schema.json and the table in docs/configuration.md against the table of options.

    config_reference_test.py DUMP_OPTIONS ROOT

DUMP_OPTIONS prints the table. With MOBULA_UPDATE_GOLDEN in the environment both files are rewritten first. The schema is
also tried: it must take each shipped and each good golden configuration, and refuse some broken ones.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

DUMP, ROOT = sys.argv[1], pathlib.Path(sys.argv[2])
try:
    import jsonschema
    import yaml
except ImportError:
    VENV = ROOT / ".cache/venv/bin/python"
    if not VENV.exists() or pathlib.Path(sys.executable) == VENV:
        sys.exit("jsonschema and PyYAML are missing: run ./tools/setup --test")
    os.execv(VENV, [str(VENV), *sys.argv])

UPDATE = "MOBULA_UPDATE_GOLDEN" in os.environ
SCHEMA = ROOT / "config/schema.json"
PAGE = ROOT / "docs/configuration.md"
BEGIN = "<!-- options: written by tools/update_golden.py -->\n"
END = "<!-- end of options -->\n"
REFERENCE = {"$ref": "#/$defs/reference"}
DEFS = {
    "reference": {"type": "string", "pattern": r"\$\{(env|file):"},
    "size": {"type": ["string", "integer"], "minimum": 0, "pattern": "^[0-9]+([KMGT]iB|[kKMGT]?B)?$"},
    "duration": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
    "address": {"type": "string", "pattern": ":[0-9]{1,5}$"},
    "url": {"type": "string", "pattern": "^https?://"},
    "region": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
}


def word_values(words):
    """As YAML reads them: `null`, `true` and `false` are not text there."""
    plain = {"true": True, "false": False, "null": None}
    return [plain[word] for word in words if word in plain] + [word for word in words if word not in ("true", "false")]


def value_schema(option):
    kind, forms = option["kind"], []
    if option["words"]:
        forms.append({"enum": word_values(option["words"])})
    if kind == "number":
        forms.append({"type": "integer", "minimum": option["min"], "maximum": option["max"]})
    elif kind in ("size", "duration", "address", "url", "region"):
        forms.append({"$ref": f"#/$defs/{kind}"})
    elif kind == "form":
        forms.append({"type": "string", "pattern": option["pattern"]})
    elif kind in ("text", "filter"):
        forms.append({"type": "string", "minLength": 1})
    elif kind == "name":
        forms.append({"type": ["string", "null"]})
    elif kind == "names":
        forms.append({"type": "array", "items": {"type": ["string", "null"]}})
    # Plain text takes a reference as it is, and a list has them inside.
    if kind not in ("text", "filter", "name", "names"):
        forms.append(REFERENCE)
    schema = {"description": option["help"]}
    if option["default"]:
        schema["description"] += f" (default: {option['default']})"
    return schema | (forms[0] if len(forms) == 1 else {"anyOf": forms})


def map_schema(tables, start, nullable=True):
    """The map whose keys are the next words of the paths that begin with `start`."""
    properties, required, needs = {}, [], {}
    for option in tables["options"]:
        if not option["path"].startswith(start):
            continue
        key = re.match(r"[^.\[]+", option["path"][len(start):])[0]
        if key in properties:
            continue
        path = start + key
        collection = next((c for c in tables["collections"] if c["path"] in (path + ".*", path + "[]")), None)
        if path == option["path"]:
            properties[key] = value_schema(option)
            if option["required"]:
                required.append(key)
        elif collection:
            properties[key] = collection_schema(tables, collection)
        else:
            properties[key] = map_schema(tables, path + ".")
        if (collection or option)["needs"]:
            needs[key] = [(collection or option)["needs"]]
    schema = {"type": ["object", "null"] if nullable else "object", "additionalProperties": False, "properties": properties}
    return schema | ({"required": required} if required else {}) | ({"dependentRequired": needs} if needs else {})


def collection_schema(tables, collection):
    path, schema = collection["path"], {"description": collection["help"]}
    value = next((value_schema(option) for option in tables["options"] if option["path"] == path), None)
    if path.endswith("[]"):
        items = value or map_schema(tables, path + ".", nullable=False)
        return schema | {"type": ["array", "null"], "maxItems": collection["max"], "items": items}
    schema["propertyNames"] = {"pattern": collection["name_pattern"]}
    schema["maxProperties"] = collection["max"]
    if path != "backends.*":
        return schema | {"type": ["object", "null"], "additionalProperties": value}
    return schema | {"type": "object", "minProperties": 1, "additionalProperties": {"oneOf": list(backend_schemas(tables))}}


def backend_schemas(tables):
    types = next(option["words"] for option in tables["options"] if option["path"] == "backends.*.type")
    for name in types:
        options = [option for option in tables["options"] if option["type"] in ("", name)]
        own = map_schema(tables | {"options": options}, "backends.*.", nullable=False)
        own["properties"]["type"] = {"enum": word_values([name])}
        yield own


def schema_text(tables):
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Mobula configuration",
        **map_schema(tables, "", nullable=False),
        "$defs": DEFS,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def table_text(options):
    lines = ["| option | value | default | meaning |", "|---|---|---|---|"]
    for option in options:
        path = option["path"].replace("backends.*", "backends.NAME").replace("*", "TAG")
        of_type = f" (type `{option['type']}`)" if option["type"] else ""
        default = "**needed**" if option["required"] else f"`{option['default']}`" if option["default"] else "none"
        cells = [f"`{path}`{of_type}", option["expected"], default, option["help"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


class Yaml12(yaml.SafeLoader):
    """Only true and false are booleans, as in the agent and in YAML 1.2."""


Yaml12.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:bool"]
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))


def main():
    tables = json.loads(subprocess.run([DUMP], capture_output=True, check=True, text=True).stdout)
    options = tables["options"]
    problems = []

    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[-1]
    wanted_page = before + BEGIN + table_text(options) + END + after
    wanted_schema = schema_text(tables)
    if UPDATE:
        PAGE.write_text(wanted_page, encoding="utf-8")
        SCHEMA.write_text(wanted_schema, encoding="utf-8")
    elif page != wanted_page:
        problems.append(f"{PAGE} does not have the table of options as it is")
    if not UPDATE and SCHEMA.read_text(encoding="utf-8") != wanted_schema:
        problems.append(f"{SCHEMA} does not have the options as they are")

    schema = json.loads(wanted_schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    golden = ROOT / "tests/golden/config"
    refused = ["admin_token", "unknown_key", "key_of_another_type", "workers", "number_too_large", "duration_without_unit",
               "file_without_path", "route_to_missing", "backend_type_unknown", "backend_name", "choice", "role_arn",
               "role_without_arn", "session_tags", "sources", "sources_no_list", "unix_mode"]
    cases = [(path, True) for path in sorted((ROOT / "config").glob("*.yaml"))]
    cases += [(path, True) for path in sorted(golden.glob("good_*.yaml")) + sorted(golden.glob("warn_*.yaml"))]
    cases += [(path, True) for path in sorted(golden.glob("*.printed"))]
    cases += [(golden / f"{name}.yaml", False) for name in refused]
    for path, good in cases:
        errors = list(validator.iter_errors(yaml.load(path.read_text(encoding="utf-8"), Loader=Yaml12)))
        if good and errors:
            problems.append(f"{path}: the schema refuses it: {errors[0].message}")
        if not good and not errors:
            problems.append(f"{path}: the schema takes it")

    print(f"{len(options)} options, {len(cases)} configurations", *problems, sep="\n")
    sys.exit(1 if problems else 0)


main()
