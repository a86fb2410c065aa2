// Verifies what it reads: a webhook a line, its secret, id, time, signatures, body and the present, in base64 or "-" for
// what is missing. Answers with a line for each, "valid" or "invalid".
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"sessionmesh.dev/acceptance/webhook_programs/webhooks"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), " ")
		header := http.Header{}
		for at, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
			if fields[at+1] != "-" {
				header.Set(name, text(fields[at+1]))
			}
		}
		now, err := strconv.ParseInt(text(fields[5]), 10, 64)
		if err != nil {
			log.Fatal(err)
		}
		if webhooks.Verify(text(fields[0]), header, []byte(text(fields[4])), time.Unix(now, 0)) == nil {
			fmt.Println("valid")
		} else {
			fmt.Println("invalid")
		}
	}
}

func text(field string) string {
	decoded, err := base64.StdEncoding.DecodeString(field)
	if err != nil {
		log.Fatal(err)
	}
	return string(decoded)
}
