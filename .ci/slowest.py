"""Print the ten slowest tests of JUnit's XML files, with what they took to set up."""

import sys
from xml.etree import ElementTree

tests = [test for path in sys.argv[1:] for test in ElementTree.parse(path).iter("testcase")]
for test in sorted(tests, key=lambda test: -float(test.get("time")))[:10]:
    print(f"{float(test.get('time')):6.1f} s  {test.get('classname')}.{test.get('name')}")
