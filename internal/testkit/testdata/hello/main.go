// Command hello says so: something for TestBuildBinary to build.
package main

import "fmt"

func main() { fmt.Println("hello") }
