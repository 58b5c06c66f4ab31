// An HTTP server instrumented with the X-Ray SDK for Go; the sampling rules come from the agent. Prints its port,
// ends with its standard input.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/aws/aws-xray-sdk-go/strategy/sampling"
	"github.com/aws/aws-xray-sdk-go/xray"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	central, err := sampling.NewCentralizedStrategy()
	check(err)
	check(xray.Configure(xray.Config{SamplingStrategy: central}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	handler := xray.Handler(xray.NewFixedSegmentNamer("go.example.com"), http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			_, subsegment := xray.BeginSubsegment(r.Context(), "work")
			subsegment.Close(nil)
			fmt.Fprintln(w, "done")
		}))
	go func() { check(http.Serve(listener, handler)) }()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	_, err = io.Copy(io.Discard, os.Stdin)
	check(err)
}
