"""openapi.yaml as tests use it: every answer that they get is held against it."""

import json
import re

import jsonschema
import yaml
from program import REPOSITORY
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

PATH = REPOSITORY / "openapi.yaml"
ROOT = "urn:contract"


class Contract:
    """The operations of the document by path and method, and the schemas of their answers."""

    def __init__(self):
        self.text = PATH.read_bytes()
        self.document = yaml.safe_load(self.text)
        self.registry = Registry().with_resource(ROOT, Resource(self.document, DRAFT202012))
        self.validators = {}

    @property
    def paths(self):
        """The methods of each path, as a server counts them: `HEAD` is there where `GET` is."""
        return {path: self._methods(item) for path, item in self.document["paths"].items()}

    @staticmethod
    def _methods(item):
        methods = {name.upper() for name in item} - {"PARAMETERS"}
        return methods | {"HEAD"} if "GET" in methods else methods

    def path_of(self, target):
        """The path of the document that a request falls under; None where there is none."""
        path = target.split("?")[0]
        fits = [
            template
            for template in self.document["paths"]
            if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path)
        ]
        return min(fits, key=lambda template: template.count("{"), default=None)

    def resolve(self, value):
        while "$ref" in value:
            place, value = value["$ref"], self.document
            for key in place.removeprefix("#/").split("/"):
                value = value[key]
        return value

    def validator(self, schema):
        text = json.dumps(schema, sort_keys=True)
        if text not in self.validators:
            placed = json.loads(text.replace('"#/', f'"{ROOT}#/'))
            formats = jsonschema.Draft202012Validator.FORMAT_CHECKER
            self.validators[text] = jsonschema.Draft202012Validator(
                placed, registry=self.registry, format_checker=formats
            )
        return self.validators[text]

    def check_value(self, schema, value):
        """Holds a value against a schema, or the name of one."""
        if isinstance(schema, str):
            schema = {"$ref": f"#/components/schemas/{schema}"}
        errors = [
            f"{error.json_path}: {error.message}" for error in self.validator(schema).iter_errors(value)
        ]
        assert not errors, f"{errors}\n{value}"

    def check(self, method, target, answer):
        """Holds an answer against what the document says of the request's path, method and status."""
        where = f"{method} {target}: {answer.status} {answer.body[:500]}"
        path = self.path_of(target)
        if answer.status >= 400 and method != "HEAD":
            problem = answer.json
            self.check_value("Problem", problem) if answer.type != "application/json" else None
            assert problem["status"] in (answer.status, "not_ready"), where
        if path is None or method not in self.paths[path]:
            assert answer.status >= 400, where
            return
        operation = self.document["paths"][path]["get" if method == "HEAD" else method.lower()]
        response = operation["responses"].get(str(answer.status))
        assert response, f"a status that openapi.yaml does not have for {where}"
        response = self.resolve(response)
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            value = answer.headers.get(name)
            assert value is not None or not header.get("required"), f"{name} is missing: {where}"
            if value is not None:
                self.check_value(header["schema"], value)
        content = response.get("content", {})
        if method == "HEAD":
            assert not answer.body, where
            return
        if not content:
            assert not answer.body, where
            return
        assert answer.type in content, f"{answer.type} is none of {list(content)}: {where}"
        schema = content[answer.type].get("schema")
        if answer.type in ("application/json", "application/problem+json"):
            self.check_value(schema, answer.json)
        elif answer.type == "application/yaml":
            self.check_value(schema, yaml.safe_load(answer.body))


CONTRACT = Contract()
