// An ordinary program instrumented with the X-Ray SDK for Node. Prints the id of every entity it made.
'use strict';

const AWSXRay = require('aws-xray-sdk-core');

AWSXRay.enableManualMode();
const made = [];
const note = (entity) => {
  made.push(entity.id);
  return entity;
};

// Four levels, with annotations, metadata and a user.
function nested() {
  const segment = note(new AWSXRay.Segment('orders.example.com'));
  segment.setUser('zoë');
  let parent = segment;
  const open = [];
  for (let depth = 0; depth < 4; depth++) {
    parent = note(parent.addNewSubsegment(`level-${depth}`));
    parent.addAnnotation('depth', depth);
    parent.addMetadata('value', { text: '漢字 \u2028', list: [1, null, 2.5] }, 'app');
    open.push(parent);
  }
  while (open.length > 0) open.pop().close();
  segment.close();
}

// Raised at the bottom, handled at the top.
function exception() {
  const segment = note(new AWSXRay.Segment('orders.example.com'));
  const outer = note(segment.addNewSubsegment('outer'));
  const inner = note(outer.addNewSubsegment('inner'));
  try {
    throw new TypeError("no such order: 'x'");
  } catch (error) {
    inner.close(error);
    outer.close(error);
    segment.close(error);
  }
}

// So many open subsegments that the SDK sends them ahead of their segment.
function streamed() {
  const segment = note(new AWSXRay.Segment('batch-worker'));
  const rows = [];
  for (let i = 0; i < 130; i++) rows.push(note(segment.addNewSubsegment(`row-${i}`)));
  for (const row of rows) {
    note(row.addNewSubsegment('store')).close();
    row.close();
  }
  segment.close();
}

nested();
exception();
streamed();
console.log(JSON.stringify(made));
