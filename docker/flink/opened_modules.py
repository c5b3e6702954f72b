"""Print the module flags of the installed Flink's own configuration; they change from version to version."""

import os

import yaml

with open(os.path.join("/opt/flink", "conf", "config.yaml")) as opened:
    print("env.java.opts.all:", yaml.safe_load(opened)["env"]["java"]["opts"]["all"])
