#!/usr/bin/env python3
"""Writes Java classes without code that have the types of Android's, for a Kotlin compiler to check against.

    android_stubs.py STUBS OUT KOTLIN...

STUBS is an unpacked wheel of chaquopy-stubs-android: Python type stubs made from Android's own android.jar. Of these,
the classes that the Kotlin files import are written with all that they have, together with what they extend; classes
that are only named in them are written empty.

Python has one `int`: parameters say which of Java's it is (`java.jlong`), results and fields do not. Those that are no
`int` are listed in NUMBERS below; a Kotlin file that uses another fails to compile, or is to be listed there.
"""

import ast
import pathlib
import re
import sys

# Results and fields that Python calls int or float.
NUMBERS = {
    "android.app.ActivityManager.MemoryInfo.availMem": "long",
    "android.app.ActivityManager.MemoryInfo.threshold": "long",
    "android.app.ActivityManager.MemoryInfo.totalMem": "long",
    "android.os.SystemClock.elapsedRealtime": "long",
    "android.database.Cursor.getLong": "long",
    "org.json.JSONObject.getDouble": "double",
    "org.json.JSONObject.getLong": "long",
    "org.json.JSONObject.optDouble": "double",
    "org.json.JSONObject.optLong": "long",
    "org.json.JSONArray.getDouble": "double",
    "org.json.JSONArray.getLong": "long",
    "org.json.JSONArray.optDouble": "double",
    "org.json.JSONArray.optLong": "long",
    "android.content.SharedPreferences.getLong": "long",
}

# Classes that Kotlin files use without importing them: a method returned them.
UNSAID = {
    "android.content.ContentResolver",
    "android.content.SharedPreferences",
    "android.content.pm.ApplicationInfo",
    "android.content.pm.PackageInfo",
    "android.content.res.Resources",
    "android.database.Cursor",
    "android.os.ParcelFileDescriptor",
    "android.util.DisplayMetrics",
    "android.view.Window",
}

# Interfaces that Kotlin files write as lambdas.
LAMBDAS = {"android.os.PowerManager.OnThermalStatusChangedListener"}

# What is not told of a class: that it has a constructor which is not public, so is no interface although it looks it.
CLASSES = {"android.content.Context", "android.view.View", "android.os.Handler"}

# Of Java's own classes, those that Android's are still said to extend. Its interfaces would want methods.
JAVA_BASES = {"java.lang.Exception", "java.lang.RuntimeException"}

PRIMITIVES = {
    "jboolean": "boolean", "jbyte": "byte", "jchar": "char", "jshort": "short",
    "jint": "int", "jlong": "long", "jfloat": "float", "jdouble": "double",
}
OURS = ("android.", "dalvik.", "org.json.", "org.xmlpull.")


def main():
    stubs, out, *kotlin = sys.argv[1:]
    api = Api(pathlib.Path(stubs))
    for name in sorted({*imports(kotlin), *UNSAID}):
        api.want(name)
    api.write(pathlib.Path(out))


def imports(files):
    """The Android classes that Kotlin files import."""
    for file in files:
        for line in pathlib.Path(file).read_text().splitlines():
            found = re.match(r"import ([\w.]+)", line)
            # Annotations are written by hand.
            if found and found[1].startswith(OURS) and not found[1].startswith("android.annotation."):
                yield found[1]


def belongs_to_a_class(member):
    """Whether an interface cannot have this: a constructor, what every object has, or a field that is no constant."""
    if isinstance(member, ast.FunctionDef):
        return member.name in ("__init__", "equals", "finalize", "hashCode", "toString")
    return isinstance(member, ast.AnnAssign) and not ast.unparse(member.annotation).startswith("typing.ClassVar")


class Api:
    """The classes that are wanted, and what is known of them."""

    def __init__(self, root):
        self.root = root
        self.modules = {}
        self.full = set()
        self.named = set()
        self.interfaces = {}

    def module(self, name):
        """The classes of a package, by name; None if there is no such package."""
        if name not in self.modules:
            first, *rest = name.split(".")
            file = self.root.joinpath(f"{first}-stubs", *rest, "__init__.pyi")
            classes = None
            if file.exists():
                tree = ast.parse(file.read_text())
                classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
            self.modules[name] = classes
        return self.modules[name]

    def find(self, name):
        """The package, and the outermost class first, of a class that is named with dots."""
        parts = name.split(".")
        for i in range(len(parts) - 1, 0, -1):
            classes = self.module(".".join(parts[:i]))
            if classes is None:
                continue
            node, path = classes.get(parts[i]), []
            for part in parts[i + 1:]:
                if node is None:
                    break
                path.append(node)
                node = next((n for n in node.body if isinstance(n, ast.ClassDef) and n.name == part), None)
            return (".".join(parts[:i]), [*path, node]) if node else None
        return None

    def want(self, name):
        """Has a class written with all that it has."""
        found = self.find(name)
        if found is None:
            sys.exit(f"android_stubs: there is no class {name}")
        package, path = found
        outer = f"{package}.{path[0].name}"
        if outer in self.full:
            return
        self.full.add(outer)
        for node in ast.walk(path[0]):
            if isinstance(node, ast.ClassDef):
                for base in self.bases(package, node):
                    if base.startswith(OURS):
                        self.want(base)

    def resolve(self, package, path, name):
        """The full name of a class, as it is named within another."""
        if "." in name and (name.startswith(("java.", "javax.")) or self.find(name)):
            return name
        scopes = [package + "".join(f".{node.name}" for node in path[:i]) for i in range(len(path), -1, -1)]
        for scope in scopes:
            if self.find(f"{scope}.{name}"):
                return f"{scope}.{name}"
        return name if name.startswith(("java.", "javax.", "org.")) else None

    def bases(self, package, node, path=()):
        names = [ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]
        names = [name for name in names if name not in ("java.lang.Object", "typing.Generic")]
        resolved = [self.resolve(package, [*path, node][:-1], name) for name in names]
        return [name for name in resolved if name]

    def is_interface(self, name):
        """Whether a class has nothing that only a class has, and extends none that has."""
        if name in CLASSES or name in JAVA_BASES:
            return False
        if name not in self.interfaces:
            self.interfaces[name] = True
            package, path = self.find(name)
            is_class = any(map(belongs_to_a_class, path[-1].body))
            bases = self.bases(package, path[-1], path[:-1])
            self.interfaces[name] = not is_class and all(map(self.is_interface, bases))
        return self.interfaces[name]

    def write(self, out):
        written = set()
        while self.full - written or self.named - self.full - written:
            for name in sorted((self.full | self.named) - written):
                written.add(name)
                package, path = self.find(name)
                text = Writer(self, package, name in self.full).top(path[0])
                file = out.joinpath(*package.split("."), f"{path[0].name}.java")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)


class Writer:
    """Writes one file: a class and those within it."""

    def __init__(self, api, package, is_full):
        self.api = api
        self.package = package
        self.is_full = is_full

    def top(self, node):
        return f"package {self.package};\n{self.type([], node)}"

    def type(self, path, node):
        path = [*path, node]
        name = self.package + "".join(f".{n.name}" for n in path)
        is_interface = self.api.is_interface(name)
        bases = list(dict.fromkeys(self.api.bases(self.package, node, path[:-1])))
        bases = [b for b in bases if b.startswith(OURS) or b in JAVA_BASES]
        for base in bases:
            self.note(base)
        head = f"public{' static' if len(path) > 1 else ''} {'interface' if is_interface else 'class'} {node.name}"
        head += self.parameters(node)
        parents = [b for b in bases if not self.api.is_interface(b)]
        others = [b for b in bases if self.api.is_interface(b)]
        if is_interface and others:
            head += " extends " + ", ".join(others)
        if parents:
            head += f" extends {parents[0]}"
        if not is_interface and others:
            head += " implements " + ", ".join(others)

        lines = [head + " {"]
        if not is_interface:
            lines.append(f"  protected {node.name}() {{}}")
        seen = set() if is_interface else {f"{node.name}()"}
        methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
        # What a Kotlin lambda stands for has one method without code. All others have some, so that no class written
        # here lacks one.
        is_function = is_interface and len([m for m in methods if not self.is_static(m)]) == 1 and name in LAMBDAS
        for item in node.body:
            if isinstance(item, ast.ClassDef):
                lines.append(self.type(path, item))
            elif not self.is_full:
                continue
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                lines.append(self.field(path, name, item, is_interface))
            elif isinstance(item, ast.FunctionDef):
                self.method(path, name, item, is_interface, is_function, seen, lines)
        lines.append("}")
        return "\n".join(lines)

    def field(self, path, owner, item, is_interface):
        kind = item.annotation
        is_constant = isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "typing.ClassVar"
        java = self.java(path, kind.slice if is_constant else kind, owner=f"{owner}.{item.target.id}")
        if not is_constant:
            return f"  public {java} {item.target.id};"
        # A string is a constant, which annotations want; a number is not, or what depends on it would be known here.
        values = {"boolean": "Boolean.valueOf(false)", "String": f'"{item.target.id}"'}
        number = f"({java}) Math.random()"
        value = values.get(java, number if java in PRIMITIVES.values() else "null")
        return f"  public static final {java} {item.target.id} = {value};"

    def method(self, path, owner, item, is_interface, is_function, seen, lines):
        arguments = [*item.args.posonlyargs, *item.args.args]
        is_static = self.is_static(item)
        if not is_static:
            arguments = arguments[1:]
        types = [self.java(path, a.annotation, is_parameter=True) for a in arguments]
        if item.args.vararg:
            types.append(self.java(path, item.args.vararg.annotation, is_parameter=True) + "...")
        is_constructor = item.name == "__init__"
        name = path[-1].name if is_constructor else item.name.rstrip("_")
        erased = f"{name}({','.join(re.sub('<.*>', '', t) for t in types)})"
        if is_constructor and not types:
            lines[1] = lines[1].replace("protected", "public")
            return
        if erased in seen:
            return
        seen.add(erased)

        listed = ", ".join(f"{t} a{i}" for i, t in enumerate(types))
        own = self.own_parameters(path, item)
        if is_constructor:
            lines.append(f"  public {own}{name}({listed}) {{}}")
            return
        java = self.java(path, item.returns, owner=f"{owner}.{item.name}")
        nullable = isinstance(item.returns, ast.BinOp) and "@org.jetbrains.annotations.Nullable " or ""
        if is_function and not is_static:
            lines.append(f"  {own}{java} {name}({listed});")
            return
        kind = "static " if is_static else "default " if is_interface else ""
        lines.append(f"  {nullable}public {kind}{own}{java} {name}({listed}) {{ throw new RuntimeException(); }}")

    def is_static(self, item):
        return any(ast.unparse(d) == "staticmethod" for d in item.decorator_list)

    def parameters(self, node):
        """The type parameters of a class."""
        for base in node.bases:
            if isinstance(base, ast.Subscript) and ast.unparse(base.value) == "typing.Generic":
                names = base.slice.elts if isinstance(base.slice, ast.Tuple) else [base.slice]
                return f"<{', '.join(ast.unparse(n).split('__')[-1] for n in names)}>"
        return ""

    def own_parameters(self, path, item):
        """The type parameters of a method."""
        own = {n.targets[0].id for n in path[-1].body if isinstance(n, ast.Assign)}
        named = {n.id for n in ast.walk(item) if isinstance(n, ast.Name)} & own
        return f"<{', '.join(sorted(n.split('__')[-1] for n in named))}> " if named else ""

    def java(self, path, kind, owner=None, is_parameter=False):
        """The Java type that a Python annotation stands for."""
        if kind is None or isinstance(kind, ast.Constant):
            return "void"
        options = self.options(kind)
        for option in options:
            if option.startswith("java.j") and option[5:] in PRIMITIVES:
                return PRIMITIVES[option[5:]]
        plain = {"int": "int", "float": "float", "bool": "boolean", "str": "String", "None": "void"}
        if options[0] in plain and not (is_parameter and len(options) > 1 and options[0] != "str"):
            return NUMBERS.get(owner, plain[options[0]])
        if "java.lang.Object" in options:
            return "Object"
        for node in self.nodes(kind):
            java = self.reference(path, node)
            if java:
                return java
        return "Object"

    def reference(self, path, node):
        text = ast.unparse(node)
        if text.startswith("java.chaquopy.JavaArrayJ"):
            return PRIMITIVES["j" + text.removeprefix("java.chaquopy.JavaArrayJ").lower()] + "[]"
        if isinstance(node, ast.Subscript):
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            outer = ast.unparse(node.value)
            if outer == "java.chaquopy.JavaArray":
                return self.boxed(path, inner[0]) + "[]"
            if outer == "typing.Type":
                of = self.boxed(path, inner[0])
                return f"Class<{'?' if of == 'Object' else of}>"
            java = self.reference(path, node.value)
            return java and f"{java}<{', '.join(self.boxed(path, i) for i in inner)}>"
        if text.startswith("_"):
            return text.split("__")[-1]
        if text in ("java.chaquopy", "typing.Any") or text.startswith("java.chaquopy."):
            return None
        name = self.api.resolve(self.package, path, text)
        if name:
            self.note(name)
        return name

    def boxed(self, path, node):
        return {"String": "String", "void": "?", "int": "Integer", "boolean": "Boolean"}.get(
            java := self.java(path, node), java
        )

    def note(self, name):
        if name.startswith(OURS):
            package, path = self.api.find(name)
            self.api.named.add(f"{package}.{path[0].name}")

    def nodes(self, kind):
        if isinstance(kind, ast.BinOp):
            return self.nodes(kind.left) + self.nodes(kind.right)
        return [kind]

    def options(self, kind):
        return [ast.unparse(node) for node in self.nodes(kind)]


main()
