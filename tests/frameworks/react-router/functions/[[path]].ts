import { createPagesFunctionHandler } from '@react-router/cloudflare';
// @ts-ignore: made by the build
import * as build from '../build/server';

export const onRequest = createPagesFunctionHandler({ build });
