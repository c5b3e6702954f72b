from __future__ import annotations
import json, time
import pytest
from tests.flink.mini_cluster import *
pytestmark = pytest.mark.flink
T0 = 1_700_000_000_000
def test_it(mini_cluster, make_topics, tables_of):
    topics = make_topics()
    recs=[]
    for i in range(6):
        recs.append(Planned(REGISTRY, T0+i, i%4, b'default/a', json.dumps({"service":"a","instance":f"i-{i}","address":"10.0.0.1","port":80+i,"lease_seconds":5}).encode()))
    for t in range(40):
        for sh in range(8):
            recs.append(Planned(HEARTBEAT, T0+500*t, (sh+t)%4, b'_witness/%d'%sh, b'{}'))
        for i in range(5):
            recs.append(Planned(HEARTBEAT, T0+500*t+1, i%4, b'i-%d'%i, b'{}'))
    import os
    which=os.environ.get('POISON','')
    p={'emoji': (b'i-1', '{"x":"\U0001F600"}'.encode()), 'nul': (b'i-1', b'{"x":"\x00"}'), 'nulkey': (b'i-1\x00', b'{}'), 'emojikey': ('i\U0001F600'.encode(), b'{}'),
       'accent': (b'i-1', '{"x":"é"}'.encode()), 'accentkey': ('ié'.encode(), b'{}'), 'emptykey': (b'', b'{}'), 'emptyval': (b'i-1', b'')}
    for w in which.split(','):
        if w: recs.append(Planned(HEARTBEAT, T0+20000, 1, *p[w]))
    topics.write(recs)
    t0=time.time()
    r=mini_cluster.run(topics)
    print('took', time.time()-t0, r)
    t=tables_of(topics)
    print({i:(k.lease,k.reason) for i,k in t.instances()[ServiceKey('default','a')].items()})
    print(topics.dead_letters())
