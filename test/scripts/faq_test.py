"""docs/faq.md quotes messages as the programs print them: what is fixed in each still stands in the sources."""

import os
import re
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
FOLDERS = ["cmake", "compiler", "dialects", "kernels", "passes", "runtime", "scripts", "tools"]
SUFFIXES = (".cpp", ".h", ".cu", ".cuh", ".cmake")
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
# With the quotation marks around it: some sources write them, some leave them to quoteJson().
PLACEHOLDER = re.compile(r'(?:--)?"?<[a-zA-Z][^<>]*>"?')
# What may stand between two fixed parts of a message in its source: expressions, and other cases of the same message.
GAP = r".{0,800}?"
FROM_CLI11 = "The following arguments were not expected: "


def messages(page):
    """The quoted lines: each line of a block that is indented by four spaces."""
    return [line[4:] for line in page.splitlines() if line.startswith("    ")]


def stream(source):
    """A source's text with adjacent string literals joined and escapes undone. A placeholder of fmt, {}, stays."""
    joined = re.sub(r'(?<!\\)"\s*\n\s*"', "", source)
    return LITERAL.sub(lambda match: '"' + re.sub(r'\\(["\\])', r"\1", match.group(1)) + '"', joined)


def pattern(message):
    message = message.removeprefix(FROM_CLI11)
    # Clauses are often put together from several literals.
    clauses = [clause for part in PLACEHOLDER.split(message) for clause in re.split(r"[:;] ", part)]
    parts = [clause.strip() for clause in clauses if clause.strip()]
    return re.compile(GAP.join(re.escape(part) for part in parts), re.S), parts


def sources():
    paths = [os.path.join(ROOT, "CMakeLists.txt")]
    for top in FOLDERS:
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            paths += [os.path.join(folder, name) for name in names
                      if name.endswith(SUFFIXES) or top == "scripts" or name == "CMakeLists.txt"]
    texts = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            texts.append(stream(file.read()))
    return texts


class Faq(unittest.TestCase):
    def test_messages_are_those_of_the_sources(self):
        with open(os.path.join(ROOT, "docs", "faq.md"), encoding="utf-8") as file:
            quoted = messages(file.read())
        self.assertGreater(len(quoted), 60)
        texts = sources()
        for message in quoted:
            with self.subTest(message=message):
                regex, parts = pattern(message)
                self.assertGreaterEqual(max(len(part) for part in parts), 5, "nothing in it is fixed")
                self.assertTrue(any(regex.search(text) for text in texts),
                                "docs/faq.md quotes what no source says (in one file, in this order)")

    def test_a_changed_text_is_found(self):
        text = stream('f(path + ": has " + std::to_string(n) +\n  " bytes, "\n  "expected \\"some\\"");')
        self.assertTrue(pattern('<file>: has <N> bytes, expected "some"')[0].search(text))
        self.assertFalse(pattern('<file>: has <N> bytes, expected "more"')[0].search(text))
        self.assertFalse(pattern('<file>: expected "some" has <N> bytes')[0].search(text))


if __name__ == "__main__":
    unittest.main()
