"""Every versioned JSON that emimic writes has a JSON Schema in the package."""

import json
import re

from json_schema import PACKAGE, keeps


def test_each_name_of_a_schema_has_one() -> None:
    named = {
        name
        for file in PACKAGE.rglob("*.py")
        for name in re.findall(r'"(emimic/[a-z]+/\d+)"', file.read_text("utf-8"))
    }
    files = {json.loads(file.read_text("utf-8"))["title"]: file for file in PACKAGE.rglob("*schema.json")}
    assert len(named) >= 19
    assert named == set(files)
    for file in files.values():
        keeps(str(file.relative_to(PACKAGE)))  # each is a schema
