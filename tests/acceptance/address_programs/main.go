// Parses what it reads: a text a line, in base64. Answers with a line for each, its canonical form or "-".
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"log"
	"os"

	"sessionmesh.dev/acceptance/address_programs/addresses"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		text, err := base64.StdEncoding.DecodeString(lines.Text())
		if err != nil {
			log.Fatal(err)
		}
		canonical, err := addresses.Parse(string(text))
		if err != nil {
			canonical = "-"
		}
		fmt.Println(canonical)
	}
}
