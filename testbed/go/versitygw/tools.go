//go:build tools

// Package versitygw names the program to build, so that go.mod and go.sum cover it.
package versitygw

import _ "github.com/versity/versitygw/cmd/versitygw"
