// An HTTP server instrumented with the X-Ray SDK for Node; the sampling rules come from the agent. Prints its port,
// ends with its standard input.
'use strict';

const http = require('http');
const AWSXRay = require('aws-xray-sdk-core');

AWSXRay.enableManualMode();
AWSXRay.middleware.setDefaultName('node.example.com');
const server = http.createServer((request, response) => {
  const segment = AWSXRay.middleware.traceRequestResponseCycle(request, response);
  segment.addNewSubsegment('work').close();
  response.end('done\n');
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
